package devserver

import (
	"errors"
	"fmt"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// fatalError is what the server says before it would end the process.
type fatalError struct{ error }

// logger drops everything but fatal messages. The server counts on Fatal not to return: with a logger that only
// drops them it goes on with what it failed to get, and crashes.
type logger struct {
	log.Logger
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
