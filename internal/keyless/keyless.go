// Package keyless refuses keys where a program is told what to do: on its command line and in its environment. Both are
// looked at before anything reads them, because messages about what cannot be read repeat it.
package keyless

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
)

// Found is the error for a key where none may be. It never repeats the key. Programs end with exit code 2.
type Found struct {
	// Where names the flag or the variable: "an argument", "--address", "TEMPORAL_ADDRESS".
	Where string
	// instead says how to do it right.
	instead, seen string
}

func (f *Found) Error() string {
	return fmt.Sprintf("%s looks like a key. Nothing was done, but %s: it counts as leaked. Revoke it, and take it out of there. %s", f.Where, f.seen, f.instead)
}

// flagName is a flag as it may be repeated.
var flagName = regexp.MustCompile(`^--?[a-z][a-z-]{0,20}$`)

// Arguments looks at a command line.
func Arguments(args []string) error {
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
			instead := "A new key goes to standard input: rekey supply KEY"
			if where == "--leaked" {
				instead = "--leaked takes fingerprints and version numbers, never the key itself"
			}
			return &Found{Where: where, instead: instead, seen: "it is in the shell's history now, and other users of this machine could see it"}
		}
		before = arg
	}
	return nil
}

// Names are the variables that say where something is, so that their values are printed and be in errors. Others hold
// secrets by right (TEMPORAL_API_KEY) and are shown nowhere.
var Names = []string{"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE", "REKEY_CONFIG"}

// Environment looks at the variables that rekey prints; get is os.Getenv.
func Environment(get func(string) string) error {
	for _, name := range Names {
		if err := Setting(name, get(name)); err != nil {
			return err
		}
	}
	return nil
}

// Setting looks at one setting that may be printed, wherever it comes from.
func Setting(name, value string) error {
	if !rotation.LooksLikeKey(value) {
		return nil
	}
	return &Found{Where: name, instead: name + " names a place, never a key", seen: "it is in the environment or in a file that others may read"}
}
