package cases_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dreamfeed/cdc"
	"dreamfeed/internal/change"
	"dreamfeed/internal/proctest"
)

// asChild makes the test binary a daemon; its value is the setup as JSON.
const asChild = "DREAMFEED_CASES_SETUP"

// childMemoryLimit is what the program itself sets.
const childMemoryLimit = 640 << 20

// childMain runs the daemon and answers on standard output, a line each: "streaming"
// once the source streams, and for every line "catch up" on standard input
// "caught up VERSION", for "stream" the part number of the transaction that the
// stream ends in, 0 if it is whole. The end of the input and SIGTERM stop it in
// order.
func childMain() int {
	var s setup
	if err := json.Unmarshal([]byte(os.Getenv(asChild)), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	debug.SetMemoryLimit(cmp.Or(s.MemoryLimit, childMemoryLimit))
	p, err := s.open(context.Background(), childLogger(), s.deadly()) // its parts outlive the signal
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for p.source.Status().State != cdc.Streaming {
			<-tick.C
		}
		fmt.Println("streaming")
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			if in.Text() == "stream" {
				h, _, _, err := p.log.Last(ctx)
				if err != nil {
					fmt.Println("error", err)
				} else if h.Open {
					fmt.Println("stream", h.Part+1)
				} else {
					fmt.Println("stream", 0)
				}
				continue
			}
			version, err := caughtUp(ctx, p)
			if err != nil {
				fmt.Println("error", err)
				continue
			}
			fmt.Println("caught up", uint64(version))
		}
		cancel()
	}()
	err = p.run(ctx)
	if closeErr := p.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child is a daemon in a process of its own.
type child struct {
	t       testing.TB
	command *exec.Cmd
	input   io.WriteCloser
	answers chan string // closed when the output ends
	errors  *proctest.Output
	ended   chan error

	mu      sync.Mutex
	peak    int64 // RssAnon, bytes
	sampled chan struct{}
}

// startChild runs the daemon in a child and returns when it streams.
func (d *daemon) startChild() {
	d.t.Helper()
	d.launchChild()
	d.child.expect("streaming")
}

// launchChild runs the daemon in a child and returns at once.
func (d *daemon) launchChild() {
	d.t.Helper()
	if d.running() {
		d.t.Fatal("the daemon runs already")
	}
	config, err := json.Marshal(d.setup)
	if err != nil {
		d.t.Fatal(err)
	}
	c := &child{t: d.t, errors: &proctest.Output{}, answers: make(chan string, 4), ended: make(chan error, 1), sampled: make(chan struct{})}
	c.command = exec.Command(os.Args[0])
	c.command.Env = append(os.Environ(), asChild+"="+string(config))
	c.command.Stderr = c.errors
	c.command.SysProcAttr = childAttributes()
	if c.input, err = c.command.StdinPipe(); err != nil {
		d.t.Fatal(err)
	}
	output, err := c.command.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := c.command.Start(); err != nil {
		d.t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			c.answers <- lines.Text()
		}
		close(c.answers)
		c.ended <- c.command.Wait()
	}()
	go c.sample()
	d.child = c
}

// sample keeps the largest anonymous memory of the child, looked at every 10 ms.
func (c *child) sample() {
	defer close(c.sampled)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.command.Process.Pid), "status"))
		if err != nil {
			return
		}
		_, rest, ok := strings.Cut(string(data), "RssAnon:")
		if !ok {
			return // it is a zombie
		}
		kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return
		}
		c.mu.Lock()
		c.peak = max(c.peak, kb<<10)
		c.mu.Unlock()
	}
}

// memory returns the peak of the child's anonymous memory so far, in bytes.
func (c *child) memory() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peak
}

// expect waits for the next answer, which begins with what is given, and
// returns the rest.
func (c *child) expect(want string) string {
	c.t.Helper()
	select {
	case line, ok := <-c.answers:
		rest, good := strings.CutPrefix(line, want)
		if !ok || !good {
			c.t.Fatalf("the child said %q, want %q; it wrote:\n%s", line, want, c.errors)
		}
		return strings.TrimSpace(rest)
	case <-time.After(patience()):
		c.t.Fatalf("the child has not said %q for too long; it wrote:\n%s", want, c.errors)
		return ""
	}
}

func (c *child) catchUp() change.Version {
	c.t.Helper()
	if _, err := io.WriteString(c.input, "catch up\n"); err != nil {
		c.t.Fatalf("ask the child to catch up: %v; it wrote:\n%s", err, c.errors)
	}
	version, err := strconv.ParseUint(c.expect("caught up"), 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return change.Version(version)
}

// openPart asks which part of an unfinished transaction the stream ends with,
// counted from 1; 0 means that it ends with a whole one.
func (c *child) openPart() int {
	c.t.Helper()
	if _, err := io.WriteString(c.input, "stream\n"); err != nil {
		c.t.Fatalf("ask the child for its stream: %v; it wrote:\n%s", err, c.errors)
	}
	part, err := strconv.Atoi(c.expect("stream"))
	if err != nil {
		c.t.Fatal(err)
	}
	return part
}

// terminate sends SIGTERM and waits for an orderly end.
func (c *child) terminate() {
	c.t.Helper()
	if err := c.command.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	c.stop()
}

// wait returns the error that the child ended with.
func (c *child) wait() error {
	c.t.Helper()
	go func() {
		for range c.answers { // let its reader come to the end
		}
	}()
	select {
	case err := <-c.ended:
		<-c.sampled
		return err
	case <-time.After(patience()):
		c.t.Fatalf("the child did not end within %s; it wrote:\n%s", patience(), c.errors)
		return nil
	}
}

// stop ends the child in order.
func (c *child) stop() {
	c.t.Helper()
	c.input.Close()
	if err := c.wait(); err != nil {
		c.t.Errorf("the child ended with %v; it wrote:\n%s", err, c.errors)
	}
}

func (c *child) kill() {
	c.t.Helper()
	if err := c.command.Process.Signal(syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	_ = c.wait() // it ends with the signal
	c.input.Close()
}
