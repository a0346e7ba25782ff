package main

import (
	"regexp"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
)

// flagName is a flag as it may be repeated.
var flagName = regexp.MustCompile(`^--?[a-z][a-z-]{0,20}$`)

// keyless refuses a command line that holds what looks like a key, before it is read: messages about what cannot be read
// repeat it.
func keyless(args []string) error {
	before := ""
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if rotation.LooksLikeKey(arg) {
			where := "an argument"
			if flagName.MatchString(name) {
				where = name
			} else if flagName.MatchString(before) && !strings.HasPrefix(arg, "-") {
				where = before
			}
			instead := "A new key goes to standard input: starter supply KEY"
			if where == "--leaked" {
				instead = "--leaked takes fingerprints and version numbers, never the key itself"
			}
			return badInput("%s looks like a key. Nothing was done, but it is in the shell's history now, and other users of this machine could see it: it counts as leaked. Revoke it, and take it out of the history. %s", where, instead)
		}
		before = arg
	}
	return nil
}
