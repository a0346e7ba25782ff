package testenv

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A test and its worker processes speak through files beside rekey.yaml: a process that was killed leaves them as they
// are for the next one.

const (
	pausedPrefix  = "paused-"
	resumedPrefix = "resumed-"
	clockFile     = "clock-offset"
	// filePause is between two looks at a file.
	filePause = 2 * time.Millisecond
)

// AwaitPaused waits until the worker process is about to run an activity of ProcessOptions.Pause.
func (e *Env) AwaitPaused(activity string) {
	e.Helper()
	e.Await("the worker pauses before "+activity, func() bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(e.File), pausedPrefix+activity))
		return err == nil
	})
}

// Resume lets the worker process run the activity before which it waits.
func (e *Env) Resume(activity string) {
	e.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(e.File), resumedPrefix+activity), nil, 0o600); err != nil {
		e.Fatal(err)
	}
}

// pauseBefore waits if this is an activity to pause before, and no process has before.
func pauseBefore(activity string) {
	if !slices.Contains(strings.Split(os.Getenv(envPause), ","), activity) {
		return
	}
	dir := os.Getenv(envKilled)
	f, err := os.OpenFile(filepath.Join(dir, pausedPrefix+activity), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the test's own folder
	if err != nil {
		return
	}
	_ = f.Close()
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(filePause) {
		if _, err := os.Stat(filepath.Join(dir, resumedPrefix+activity)); err == nil { //nolint:gosec // as above
			return
		}
	}
}

// MoveWorkerClock makes the clocks of the worker processes show so much more than the time from now on.
func (e *Env) MoveWorkerClock(by time.Duration) {
	e.Helper()
	name := filepath.Join(filepath.Dir(e.File), clockFile)
	err := os.WriteFile(name+".new", []byte(by.String()), 0o600)
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		e.Fatal(err)
	}
}

// movable is a clock that MoveWorkerClock moves.
func movable(dir string) func() time.Time {
	var last atomic.Int64 // what it was, for a process that can open no file
	return func() time.Time {
		if text, err := os.ReadFile(filepath.Join(dir, clockFile)); err == nil { //nolint:gosec // the test's own folder
			if by, err := time.ParseDuration(string(text)); err == nil {
				last.Store(int64(by))
			}
		}
		return time.Now().Add(time.Duration(last.Load()))
	}
}
