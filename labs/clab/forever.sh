#!/bin/sh
# forever.sh PROGRAM ARGUMENT...: starts a program again whenever it ends, as
# systemd does on a real box. The container itself must not end: its cables would
# go with it.
trap 'exit 0' TERM INT
while true; do
	"$@" &
	wait $!
	sleep 1
done
