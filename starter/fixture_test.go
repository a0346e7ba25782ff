package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/secretsearch"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/internal/testlog"
	"github.com/rekeyhq/rekey/secret"
)

// commandLine is the command line with a rekey.yaml, against a namespace of Temporal.
type commandLine struct {
	t        testing.TB
	file     string
	temporal *testenv.Temporal
	// environment is what a process gets beside that of the tests.
	environment []string
	// said is all that processes wrote, on both outputs.
	said testlog.Buffer
}

func (c *commandLine) args(args ...string) []string {
	return append([]string{"--config", c.file, "--address", c.temporal.Address(), "--namespace", c.temporal.Namespace}, args...)
}

// run runs the command line in this process. A command that watches is not watched for ever.
func (c *commandLine) run(ctx context.Context, stdin string, args ...string) (code int, out, errOut string) {
	var stdout, stderr strings.Builder
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	code = run(ctx, c.args(args...), strings.NewReader(stdin), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// must runs the command line in this process and expects an exit code and something said.
func (c *commandLine) must(want int, said, stdin string, args ...string) string {
	c.t.Helper()
	code, out, errOut := c.run(c.t.Context(), stdin, args...)
	if code != want || !strings.Contains(out+errOut, said) {
		c.t.Fatalf("rekey %v: exit code %d, want %d and %q:\n%s%s", args, code, want, said, out, errOut)
	}
	return out + errOut
}

// command is the command line in a process of its own, which is killed with the test. It is not started yet.
func (c *commandLine) command(stdin string, args ...string) (cmd *exec.Cmd, out *testlog.Buffer) {
	cmd = exec.Command(os.Args[0])
	// This test binary is the command line if it is called so.
	cmd.Args = append([]string{"rekey"}, c.args(args...)...)
	cmd.Env = append(append(os.Environ(), "TEMPORAL_CONFIG_FILE="+c.file+".none"), c.environment...)
	cmd.Stdin, out = strings.NewReader(stdin), &testlog.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	c.t.Cleanup(func() { kill(cmd) })
	return cmd, out
}

// kill ends a process as a power cut would, if it runs.
func kill(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// rekey runs the command line in a process of its own and checks the exit code. It gives what was printed, on both outputs.
func (c *commandLine) rekey(want int, stdin string, args ...string) string {
	c.t.Helper()
	cmd, out := c.command(stdin, args...)
	err := cmd.Run()
	_, _ = c.said.Write([]byte(out.String()))
	code := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		c.t.Fatal(err)
	}
	if code != want {
		c.t.Errorf("rekey %s: exit code %d, want %d:\n%s", strings.Join(args, " "), code, want, out)
	}
	return out.String()
}

// fixture is everything that the command line talks to: a simulated cloud, Temporal, and workers once they are started.
type fixture struct {
	*testenv.Env
	*commandLine
}

func newFixtureWith(t *testing.T, o testenv.Options) *fixture {
	t.Helper()
	e := testenv.Start(t, o)
	return &fixture{e, &commandLine{t: t, file: e.File, temporal: e.Temporal}}
}

// fast is a cloud in which nothing takes longer than it must, with a local store. lines are added to the policy. No worker
// dies here, so nothing waits for the end of step_timeout.
func fast(t *testing.T, lines ...string) scenario.Options {
	return scenario.Options{
		Dir: t.TempDir(), RequestTimeout: "2s", Propagation: "1s", RevocationLag: "1s", KeyBits: 1024,
		Policy: append([]string{"grace: 1s", "soak: 0s", "quiet: 0s", "recheck: 1s", "step_timeout: 1m"}, lines...),
	}
}

// newFixture starts a fixture with workers. add adds the keys.
func newFixture(t *testing.T, o scenario.Options, add func(*scenario.Scenario) error) *fixture {
	t.Helper()
	s := newFixtureWith(t, testenv.Options{SimOptions: testenv.SimOptions{Scenario: o, Keys: add}})
	s.StartWorkers()
	return s
}

// values are all that ever stood in this fixture's stores or was made in the console.
func (s *fixture) values() []secret.Value { return append(s.SM.Seen(), s.OpenAI.Made()...) }

// searched searches what was printed for values, byte by byte and in every encoding (I5).
func searched(t testing.TB, said string, values ...secret.Value) {
	t.Helper()
	if !slices.ContainsFunc(values, secretsearch.Searches) {
		t.Fatal("no values to search for: the search proves nothing")
	}
	for _, fingerprint := range secretsearch.New(values...).In([]byte(said)) {
		t.Errorf("the secret %s was printed, or a part of it", fingerprint)
	}
}

// named checks that an output names a key as it may, by its fingerprint: it went through where a secret could have.
func named(t testing.TB, said string, v secret.Value) {
	t.Helper()
	if !strings.Contains(said, v.Fingerprint()) {
		t.Errorf("what was printed does not even name the key %s: the search proves little\n%s", v.Fingerprint(), said)
	}
}
