package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// readUsage reads what a process uses now, from /proc.
func readUsage(pid int) (u usage, err error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return u, err
	}
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return u, err
	}
	// The owner of a process may read this of it; without it nothing is counted.
	io, err := os.ReadFile(dir + "io")
	if err != nil {
		return u, err
	}
	return parseUsage(status, stat, io)
}

// parseUsage reads the content of status, stat and io of a process: proc(5).
func parseUsage(status, stat, io []byte) (u usage, err error) {
	// A process that has ended has no memory any more, and its status no lines of it.
	u.memory = (number(status, "RssAnon:") + number(status, "RssShmem:")) * 1024
	u.mapped = number(status, "RssFile:") * 1024
	u.written = number(io, "\nwrite_bytes:")
	u.cpu, err = cpuTime(stat)
	return u, err
}

// number is the number after a name, 0 if the name is not there.
func number(text []byte, name string) int64 {
	_, rest, found := bytes.Cut(text, []byte(name))
	if !found {
		return 0
	}
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// tickLength is the unit of times in /proc: Linux shows them in hundredths of a
// second on every platform that Go knows.
const tickLength = 10 * time.Millisecond

// cpuTime is the sum of utime and stime, fields 14 and 15 of stat. The second
// field is the program's name in parentheses and may hold anything.
func cpuTime(stat []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	const utime, stime = 14 - 3, 15 - 3
	if end < 0 || len(fields) <= stime {
		return 0, fmt.Errorf("/proc/PID/stat has %d fields after the name: want at least %d", len(fields), stime+1)
	}
	user, err := strconv.ParseInt(string(fields[utime]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("utime in /proc/PID/stat: %w", err)
	}
	system, err := strconv.ParseInt(string(fields[stime]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("stime in /proc/PID/stat: %w", err)
	}
	return time.Duration(user+system) * tickLength, nil
}
