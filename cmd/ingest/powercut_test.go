//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	powerCuts = flag.Int("powercut.rounds", 3, "how many times the power is cut")
	powerSeed = flag.Uint64("powercut.seed", 0, "seed of the moments of the power cuts; 0 draws one")
)

// withoutRoot, when set to "skip", leaves the power cuts out: on a machine where
// the developer is not root, or loop devices are forbidden.
const withoutRoot = "DREAMFEED_POWERCUT"

// A file system that is shut down without flushing its journal keeps what was
// synced and nothing else, as after a power cut.
const (
	ioctlShutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN
	shutdownNoFlush = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
	powerDiskBytes  = 2 << 30    // sparse
)

// powerDisk is an ext4 file system in a file.
type powerDisk struct {
	t     *testing.T
	dir   string // where it is mounted
	image string
	loop  string
}

func newPowerDisk(t *testing.T) *powerDisk {
	t.Helper()
	root := t.TempDir()
	d := &powerDisk{t: t, dir: filepath.Join(root, "disk"), image: filepath.Join(root, "image")}
	const remedy = "the power cut test mounts an ext4 file system: run it as root on Linux with loop devices " +
		"(mount, losetup and mkfs.ext4 come with the packages mount and e2fsprogs; a container needs --privileged), " +
		"or leave it out knowingly with " + withoutRoot + "=skip"
	if os.Geteuid() != 0 {
		t.Fatal(remedy)
	}
	err := os.Mkdir(d.dir, 0o755)
	if err == nil {
		err = os.WriteFile(d.image, nil, 0o600)
	}
	if err == nil {
		err = os.Truncate(d.image, powerDiskBytes)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := utility("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", d.image); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s: %s", err, out, remedy)
	}
	out, err := utility("losetup", "--find", "--show", d.image)
	if err != nil {
		t.Fatalf("losetup: %v: %s: %s", err, out, remedy)
	}
	d.loop = strings.TrimSpace(out)
	t.Cleanup(func() {
		_ = unix.Unmount(d.dir, unix.MNT_DETACH) // it may not be mounted
		if out, err := utility("losetup", "--detach", d.loop); err != nil {
			t.Errorf("losetup --detach %s: %v: %s", d.loop, err, out)
		}
	})
	if err := d.mount(); err != nil {
		t.Fatalf("%v: %s", err, remedy)
	}
	return d
}

// utility runs a command that ends by itself.
func utility(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C")
	if path, err := exec.LookPath(name); err != nil {
		cmd.Path = filepath.Join("/usr/sbin", name)
		cmd.Err = nil
	} else {
		cmd.Path = path
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (d *powerDisk) mount() error {
	if err := unix.Mount(d.loop, d.dir, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", d.loop, err)
	}
	return nil
}

// cut ends the file system as if its disk had lost power.
func (d *powerDisk) cut() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	flag := uint32(shutdownNoFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlShutdown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		d.t.Fatalf("shut the file system down: %v", errno)
	}
}

// restore mounts the file system again, which replays its journal.
func (d *powerDisk) restore() {
	d.t.Helper()
	// A killed process lets go of its files a moment after its end.
	await(d.t, "the file system to be let go of", func() bool {
		err := unix.Unmount(d.dir, 0)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			d.t.Fatal(err)
		}
		return err == nil
	})
	if err := d.mount(); err != nil {
		d.t.Fatal(err)
	}
}

// I1, I2, I3: what PostgreSQL was told to forget, and what was removed from the
// stream, survives a power cut at any moment; what did not survive comes again,
// once.
func TestPowerCutLosesAndDoublesNothing(t *testing.T) {
	if os.Getenv(withoutRoot) == "skip" {
		t.Skip("left out by " + withoutRoot + "=skip")
	}
	seed := *powerSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("again with -powercut.seed %d", seed)
	t.Run("of stream and store", func(t *testing.T) {
		t.Parallel()
		// A daemon trims the stream after a second: of what it removed then nothing may
		// have been in the store's memory only.
		powerCutRounds(t, rand.New(rand.NewPCG(seed, 1)), 300*time.Millisecond, 1700*time.Millisecond, newPowerDisk(t), nil, "--replay-window", "0s")
	})
	t.Run("of an external server that syncs every two minutes", func(t *testing.T) {
		t.Parallel()
		// PostgreSQL was told only what the store had synced, and holds the rest.
		disk := newPowerDisk(t)
		nats := newNATSProcess(t, filepath.Join(disk.dir, "nats"))
		powerCutRounds(t, rand.New(rand.NewPCG(seed, 3)), 300*time.Millisecond, 1500*time.Millisecond, disk, nats)
	})
	t.Run("of the store behind a stream elsewhere", func(t *testing.T) {
		t.Parallel()
		external := externalStream(t)
		// A daemon trims the stream after a second: what it removed then, the store
		// must have.
		powerCutRounds(t, rand.New(rand.NewPCG(seed, 2)), 1050*time.Millisecond, 1600*time.Millisecond, newPowerDisk(t), nil,
			"--nats-url", external, "--replay-window", "0s")
	})
}

// powerCutRounds cuts the power of a disk in a backfill and then again and again
// under load, each time when a daemon is between least and most old. On the disk
// lies the daemon's data, or that of a NATS server if one is given.
func powerCutRounds(t *testing.T, r *rand.Rand, least, most time.Duration, disk *powerDisk, nats *natsProcess, args ...string) {
	t.Helper()
	s := newCrashSite(t)
	s.args = append(s.args, args...)
	if nats != nil {
		s.args = append(s.args, "--nats-url", nats.url(), "--stream-max-bytes", strconv.Itoa(powerDiskBytes/2))
	} else {
		s.dataDir = filepath.Join(disk.dir, "data")
	}
	renewed := 0
	run := func(least, most time.Duration) {
		t.Helper()
		d := start(t, s.dataDir, s.url, append(s.args, "--log-level", "warn")...)
		<-time.After(least + time.Duration(r.Int64N(int64(most-least))))
		disk.cut()
		if nats != nil {
			nats.kill()
		}
		d.kill()
		if strings.Contains(d.output.String(), "the external stream is renewed from the store") {
			renewed++
		}
		disk.restore()
		if nats != nil {
			nats.start()
		}
	}
	run(50*time.Millisecond, 400*time.Millisecond) // in the backfill, as a rule
	s.requireRecovered("--until-caught-up")
	stop := s.ledger.load(r.Uint64())
	for range *powerCuts {
		run(least, most)
	}
	stop()
	s.requireRecovered("--until-caught-up")
	if nats != nil && renewed == 0 {
		t.Error("no power cut took anything of the stream, so that nothing is shown")
	}
	changes := 0
	for _, versions := range s.ledger.versions {
		changes += len(versions)
	}
	t.Logf("%d power cuts, %d changes in %d rows, each there once; the stream was renewed %d times", 1+*powerCuts, changes, len(s.ledger.versions), renewed)
}
