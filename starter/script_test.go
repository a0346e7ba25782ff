package main

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rekeyhq/rekey/internal/testenv"
)

// The scripts in testdata read like a manual: each runs the real command line.
func TestMain(m *testing.M) {
	testenv.RunWorker()
	testscript.Main(tests{m}, map[string]func(){"rekey": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}})
}

// tests are those of this package, which share a Temporal. They mostly wait: more of them at once than there are cores.
type tests struct{ *testing.M }

// Run runs them.
func (t tests) Run() int { return testenv.Main(t.M, testenv.MainOptions{Parallel: 8}) }

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			// Nobody listens there; nothing of the developer's own Temporal settings gets in.
			e.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
			e.Setenv("TEMPORAL_CONFIG_FILE", e.WorkDir+"/none.toml")
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
	})
}

func TestTheDemoRotatesThreeKeysWithoutOneFailedRequest(t *testing.T) {
	t.Parallel()
	var out, errOut strings.Builder
	code := run(t.Context(), []string{"demo", "--json"}, strings.NewReader(""), &out, &errOut)
	var got struct {
		Outcome        *string
		Rotations      *int
		RequestsSent   *int64 `json:"requests_sent"`
		RequestsFailed *int64 `json:"requests_failed"`
		OldKeysRefused *int   `json:"old_keys_refused"`
		Orphans        *int
	}
	d := json.NewDecoder(strings.NewReader(out.String()))
	if err := d.Decode(&got); err != nil || d.More() {
		t.Fatalf("exit code %d; standard output is not one JSON object: %v\n%s%s", code, err, out.String(), errOut.String())
	}
	if code != exitOK || *got.Outcome != "ok" || *got.Rotations != 3 || *got.RequestsSent < 100 || *got.RequestsFailed != 0 || *got.OldKeysRefused != 2 || *got.Orphans != 0 {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errOut.String())
	}
}
