# What the pages take for granted.
set -euo pipefail
ip link set lo up

with_tables() {
  createdb app
  export PGDATABASE=app WALDELTA_DATABASE_URL="postgresql:///app?host=$PGHOST&port=$PGPORT&user=$PGUSER"
  psql -X -q -v ON_ERROR_STOP=1 -f .tables.sql
}

# The service that runs while a page is read.
with_service() {
  waldelta init --apply > /dev/null 2>&1
  waldelta run --config waldelta.toml > service.log 2>&1 &
  local first=$!
  is_ready
  psql -X -q -c 'UPDATE orders SET total = total + 1'
  until [[ $(psql -XAtc "SELECT count(*) FROM waldelta.change_history WHERE operation = 'update'") == 3 ]]; do sleep 0.1; done
  # What there is when it starts is sealed then, where that is wanted.
  kill "$first" && wait "$first"
  waldelta run --config waldelta.toml >> service.log 2>&1 &
  is_ready
  if grep -q 'seal = true' waldelta.toml; then
    until waldelta verify > /dev/null 2>&1; do sleep 0.1; done
  fi
}

is_ready() {
  for _ in $(seq 300); do
    command waldelta healthcheck > /dev/null 2>&1 && return
    sleep 0.1
  done
  echo 'the service is not ready' >&2
  return 1
}

# Somebody who copies line after line: what goes on until it is ended has a terminal of its own, and is looked at for a moment.
as_a_reader() {
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout tls.key -out tls.crt 2> /dev/null
  waldelta() {
    case ${1-} in
      run)
        command waldelta "$@" > service.log 2>&1 &
        is_ready
        psql -X -q -c 'UPDATE orders SET total = total + 1'
        ;;
      tail | top) timeout 2 script -qec "waldelta $*" /dev/null < /dev/null || (($? == 124)) ;;
      doctor) command waldelta "$@" || (($? == 1)) ;;
      *) command waldelta "$@" ;;
    esac
  }
  curl() {
    if [[ " $* " == *' -N '* ]]; then
      timeout 2 curl --silent --show-error --fail "$@" || (($? == 124))
    else
      command curl --silent --show-error --fail "$@"
    fi
  }
  export() {
    [[ $1 == WALDELTA_DATABASE_URL=*example.com* ]] || builtin export "$@"
  }
}

nothing_is_left() {
  [[ -f service.log ]] && return
  ! pidof waldelta > /dev/null || { echo 'a service still runs at the end of the page' >&2; return 1; }
}
