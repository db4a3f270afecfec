# Unmounts a test's disk when the test is gone, however it ended: the test holds the other end of our standard input. A
# server on the disk may need a while to end. $1: where it is mounted.
trap '' HUP INT QUIT TERM
while read -r _; do :; done
tenths=0
until umount "$1"; do
  if [ "$tenths" -ge 600 ]; then
    umount -l "$1"
    break
  fi
  sleep 0.1
  tenths=$((tenths + 1))
done
rmdir "$1"
