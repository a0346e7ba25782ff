package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheExitCodeSaysWhoseFaultItIs(t *testing.T) {
	t.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
	dir := t.TempDir()
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte("install: abc123\nproviders: {o: {type: openai}}\nstores: {l: {type: local, dir: s, identity: i}}\nkeys: [{name: gpt, provider: o, account: proj_p, stores: [{store: l, path: gpt}]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		want int
	}{
		"help is no failure":                      {[]string{"--help"}, exitOK},
		"a missing file is bad input":             {[]string{"status"}, exitBadInput},
		"an unknown command is bad input":         {[]string{"rotat"}, exitBadInput},
		"an unknown flag is bad input":            {[]string{"status", "--nope"}, exitBadInput},
		"a missing argument is bad input":         {[]string{"rotate"}, exitBadInput},
		"an unknown key is bad input":             {[]string{"--config", good, "rotate", "nope"}, exitBadInput},
		"a key on the command line is bad input":  {[]string{"--config", good, "supply", "gpt", "--key", "sk-proj-0123456789abcdef0123456789abcdef"}, exitBadInput},
		"a Temporal that is away is a failure":    {[]string{"--config", good, "rotate", "gpt"}, exitFailed},
		"a doctor who finds something is no help": {[]string{"--config", good, "doctor"}, exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			var errOut strings.Builder
			if got := run(t.Context(), append([]string{}, tc.args...), strings.NewReader(""), io.Discard, &errOut); got != tc.want {
				t.Errorf("exit code %d, want %d: %s", got, tc.want, errOut.String())
			}
		})
	}
}
