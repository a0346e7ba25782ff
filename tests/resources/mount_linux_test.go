package resources

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// small is a disk of a size that a test can fill.
type small struct {
	testing.TB
	dir string
}

// mount puts a small disk at dir, until the test ends.
func mount(t testing.TB, dir, size string) *small {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size="+size)
	if errors.Is(err, unix.EPERM) {
		t.Skip("a disk to fill has to be mounted, and this process may not: run it as root (sudo unshare --mount go test ./tests/resources leaves the disks to nobody else)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return &small{t, dir}
}

func (d *small) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves no byte free.
func (d *small) fill() {
	d.Helper()
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); ; {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			d.Fatal(err)
		}
	}
}

// free makes room again.
func (d *small) free() {
	d.Helper()
	if err := os.Remove(d.ballast()); err != nil {
		d.Fatal(err)
	}
}

// readOnly makes the disk one that nobody can write to, root included, or one that can be written to again.
func (d *small) readOnly(yes bool) {
	d.Helper()
	flags := uintptr(unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV)
	if yes {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("", d.dir, "", flags, ""); err != nil {
		d.Fatal(err)
	}
}
