package main

import (
	"os"

	"github.com/rekeyhq/rekey/internal/keyless"
)

// keylessInput refuses a command line, or an environment, that holds what looks like a key, before it is read.
func keylessInput(args []string) error {
	err := keyless.Arguments(args)
	if err == nil {
		err = keyless.Environment(os.Getenv)
	}
	if err != nil {
		return &exit{exitBadInput, err}
	}
	return nil
}
