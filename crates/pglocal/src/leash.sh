# Stops PostgreSQL when the process that started it is gone, however it ended. That process holds the other end of our
# standard input and writes the server's process id to it (0: none); the end of input means that it is gone.
# $1: data folder; $2: folder to remove then, or empty; $3: folder of the socket, if it is one of its own, or empty.
trap '' HUP INT QUIT TERM
pid=0
while read -r line; do pid=$line; done
if [ "$pid" -gt 0 ] && { [ ! -d /proc/self ] || [ "$(readlink "/proc/$pid/cwd")" = "$1" ]; }; then
  kill -INT "$pid"
  tenths=0
  while [ -e "$1/postmaster.pid" ] && [ "$tenths" -lt 300 ]; do sleep 0.1; tenths=$((tenths + 1)); done
  if [ -e "$1/postmaster.pid" ]; then
    kill -QUIT "$pid"
    # What stands still does not end.
    for process in /proc/[0-9]*; do
      if [ "$(readlink "$process/cwd" 2> /dev/null)" = "$1" ]; then kill -CONT "${process#/proc/}"; fi
    done
    tenths=0
    while [ -e "$1/postmaster.pid" ] && [ "$tenths" -lt 50 ]; do sleep 0.1; tenths=$((tenths + 1)); done
  fi
fi
if [ -n "$3" ]; then rm -rf -- "$3"; fi
if [ -n "$2" ]; then
  # The last of its processes may write once more while the folder goes.
  rm -rf -- "$2" || { sleep 1; rm -rf -- "$2"; }
fi
