package devserver

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// fatalError is what the server says before it would end the process.
type fatalError struct{ error }

// logger drops everything but fatal messages, and what keeps the database from being written. The server counts on Fatal
// not to return: with a logger that only drops them it goes on with what it failed to get, and crashes.
type logger struct {
	log.Logger
	database *database
}

// Error is how the server says, among much else, that a write failed.
func (l logger) Error(_ string, tags ...tag.Tag) {
	for _, t := range tags {
		if text, ok := t.Value().(string); ok {
			l.database.heard(text)
		}
	}
}

// Fatal ends what could not go on; caught turns it into an error.
func (logger) Fatal(msg string, tags ...tag.Tag) {
	for _, t := range tags {
		msg += fmt.Sprintf(", %s %v", t.Key(), t.Value())
	}
	panic(fatalError{errors.New(msg)})
}

// caught runs step and returns its error, or the fatal message that ended it.
func caught(step func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(fatalError)
			if !ok {
				panic(r)
			}
			err = f
		}
	}()
	return step()
}

// database tells somebody why the server cannot write its file. The server tries again and again, and its clients learn
// of nothing but time that passes.
type database struct {
	file string
	tell func(string)

	mu   sync.Mutex
	told map[string]time.Time
}

// troubleNews is for how long the same trouble is no news.
const troubleNews = time.Minute

// troubles are what SQLite says when the machine denies it something, and what a person can do.
var troubles = []struct{ sqlite, why, do string }{
	{"database or disk is full", "its disk is full", "Free some space"},
	{"readonly database", "it is read-only", "Make the file and its folder writable"},
	{"unable to open database file", "it cannot be opened", "See that its folder is there, and that this process may open more files (ulimit -n)"},
	{"disk I/O error", "its disk reports an error", "Look at the disk"},
}

func (d *database) heard(text string) {
	if d == nil || d.tell == nil {
		return
	}
	for _, t := range troubles {
		if !strings.Contains(text, t.sqlite) {
			continue
		}
		d.mu.Lock()
		news := time.Since(d.told[t.sqlite]) > troubleNews
		if news {
			d.told[t.sqlite] = time.Now()
		}
		d.mu.Unlock()
		if news {
			d.tell(fmt.Sprintf("Temporal cannot write its database %s: %s. %s. Until then rotations stand still; nothing is lost, and they go on by themselves.", d.file, t.why, t.do))
		}
	}
}
