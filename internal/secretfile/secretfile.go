// Package secretfile reads secrets of rekey's own from files that only their owner may read.
package secretfile

import (
	"errors"
	"fmt"
	"os"

	"github.com/rekeyhq/rekey/secret"
)

// Min is how short a shared secret may be.
const Min = 16

// Make is what makes a shared secret.
const Make = "Make one: (umask 077; openssl rand -hex 32 > FILE)"

// maxSize is more than one line needs.
const maxSize = 4096

// Read reads a line of at least Min characters. Its errors do not name the file, and say nothing of its content. missing
// says what to do where there is none.
func Read(name, missing string) (secret.Value, error) {
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return secret.Value{}, errors.New("there is no such file. " + missing)
	} else if err != nil {
		return secret.Value{}, errors.New("the file cannot be read")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret.Value{}, errors.New("others than its owner can use it. chmod 600")
	}
	if info.Size() > maxSize {
		return secret.Value{}, errors.New("it is longer than 4 KiB; expected one line")
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return secret.Value{}, errors.New("the file cannot be read; is it the user's that runs the worker?")
	}
	defer clear(text)
	line := trimLineEnd(text)
	if len(line) < Min {
		return secret.Value{}, fmt.Errorf("it holds fewer than %d characters. %s", Min, missing)
	}
	return secret.New(line), nil
}

// trimLineEnd cuts the line end off that editors and shells add; nobody signs with it.
func trimLineEnd(text []byte) []byte {
	for len(text) > 0 && (text[len(text)-1] == '\n' || text[len(text)-1] == '\r') {
		text = text[:len(text)-1]
	}
	return text
}
