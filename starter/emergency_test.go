package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/workflows"
)

// testWorker is a worker process: file, address and namespace are its arguments.
func testWorker() {
	ctx := context.Background()
	cfg, err := config.Load(os.Args[1])
	var c client.Client
	if err == nil {
		c, err = client.Dial(client.Options{HostPort: os.Args[2], Namespace: os.Args[3], Logger: silent})
	}
	if err == nil {
		acts, openErr := adapters.Open(ctx, cfg, nil)
		if err = openErr; err == nil {
			_, err = engine.Start(ctx, c, os.Args[3], acts, engine.Options{})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}

// night is a simulated cloud with keys, a namespace of Temporal, and worker processes.
type night struct {
	*testing.T
	*scenario.Scenario
	file, address, namespace string
	names                    []string
	old                      map[string]string
	client                   client.Client
}

var nights atomic.Int64

// newNight has so many Google keys, called ci-00, ci-01, …; byHand adds the OpenAI key gpt.
func newNight(t *testing.T, keys int, byHand bool) *night {
	t.Helper()
	server, err := theTemporal()
	if err != nil {
		t.Fatal(err)
	}
	n := &night{T: t, file: filepath.Join(t.TempDir(), "rekey.yaml"), address: server.HostPort(), namespace: fmt.Sprintf("night-%d", nights.Add(1)), old: map[string]string{}}
	n.Scenario, err = scenario.Start(scenario.Options{Policy: []string{"step_timeout: 3s"}, RequestTimeout: "1s", Mode: "create", KeyBits: 1024})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Scenario.Stop)
	for i := range keys {
		name := fmt.Sprintf("ci-%02d", i)
		if n.old[name], err = n.Google(name, scenario.Alias); err != nil {
			t.Fatal(err)
		}
		n.names = append(n.names, name)
	}
	if byHand {
		if n.old["gpt"], err = n.OpenAIKey("gpt", scenario.Alias); err != nil {
			t.Fatal(err)
		}
		n.names = append(n.names, "gpt")
	}
	if err := os.WriteFile(n.file, []byte(n.YAML()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server.AddNamespace(t.Context(), n.namespace, workflows.SearchAttributes()); err != nil {
		t.Fatal(err)
	}
	if n.client, err = client.Dial(client.Options{HostPort: n.address, Namespace: n.namespace, Logger: silent}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.client.Close)
	return n
}

// process starts a program of the tests in a process of its own. It is killed with the test.
func (n *night) process(out io.Writer, program string, args ...string) *exec.Cmd {
	n.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { kill(cmd) })
	return cmd
}

// kill ends a process as a power cut would.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func (n *night) work(file string) *exec.Cmd {
	return n.process(io.Discard, "test-worker", file, n.address, n.namespace)
}

func (n *night) args(args ...string) []string {
	return append([]string{"--config", n.file, "--address", n.address, "--namespace", n.namespace}, args...)
}

// rekey runs the command line in this process.
func (n *night) rekey(ctx context.Context, in string, args ...string) (code int, out, errOut string) {
	var stdout, stderr strings.Builder
	code = run(ctx, n.args(args...), strings.NewReader(in), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// until waits for something to become true.
func (n *night) until(what string, ok func() bool) {
	n.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	n.Fatalf("%s: not within a minute", what)
}

// invariants checks what must hold, and that just these keys were replaced and refused.
func (n *night) invariants(replaced ...string) {
	n.Helper()
	for _, name := range replaced {
		for _, broken := range n.Cloud.Check(scenario.Rules(name, scenario.Alias)) {
			n.Error(broken)
		}
		if _, live := n.Cloud.LiveKeys()[n.old[name]]; live {
			n.Errorf("the old key of %s still works", name)
		}
		if id := n.Cloud.PublishedKeys()[scenario.Path(scenario.Alias, name)]; id == n.old[name] {
			n.Errorf("applications still read the old key of %s", name)
		}
	}
	if live := len(n.Cloud.LiveKeys()); live != len(n.names) {
		n.Errorf("%d keys live, want one for each of %d", live, len(n.names))
	}
	if orphans := n.Cloud.Orphans(); len(orphans) > 0 {
		n.Errorf("orphans: %v", orphans)
	}
}

// output is what a process has printed so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// emergencyOf finds the id that the command has printed.
func emergencyOf(text string) string {
	_, id, _ := strings.Cut(text, "rekey emergency --resume ")
	return id[:min(8, len(id))]
}

func TestAnEmergencyGoesOnWhenCommandAndWorkerAreKilledHalfWay(t *testing.T) {
	n := newNight(t, 20, false)
	worker := n.work(n.file)
	var out output
	cmd := n.process(&out, "rekey", n.args("emergency", "--all", "--why", "the laptop was stolen", "--yes", "--concurrency", "4")...)
	n.until("some keys are done", func() bool { return strings.Count(out.String(), "done, the old key is refused") >= 2 })
	kill(cmd)
	kill(worker)
	id := emergencyOf(out.String())
	if strings.Count(out.String(), "done, the old key is refused") == 20 {
		t.Fatal("it was over before it was killed")
	}
	n.work(n.file)
	code, text, errOut := n.rekey(t.Context(), "", "emergency", "--resume", id, "--json")
	var got struct {
		ID       string
		Complete bool
		Outcome  string
		Keys     []struct {
			Key, State string
			New        *float64 `json:"seconds_to_new_key"`
			Refused    *float64 `json:"seconds_to_old_key_refused"`
		}
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || code != exitOK || !got.Complete || got.ID != id || got.Outcome != "20 of 20 done." || len(got.Keys) != 20 {
		t.Fatalf("exit code %d: %v\n%s%s", code, err, text, errOut)
	}
	for _, k := range got.Keys {
		if k.State != "done" || k.New == nil || k.Refused == nil || *k.Refused < *k.New {
			t.Errorf("%+v", k)
		}
	}
	n.invariants(n.names...)
	// Watched once more, long after: the same table, with no second rotation.
	if code, again, _ := n.rekey(t.Context(), "", "emergency", "--resume", id); code != exitOK || !strings.Contains(again, "OLD KEY REFUSED AFTER") {
		t.Errorf("exit code %d\n%s", code, again)
	}
}

func TestAnEmergencyAsksForTheNumberOfKeys(t *testing.T) {
	n := newNight(t, 3, false)
	var begun []string
	for sentence, tc := range map[string]struct {
		answer string
		args   []string
		code   int
	}{
		"yes is no number":               {"yes\n", nil, exitRefused},
		"another number is wrong":        {"4\n", nil, exitRefused},
		"nobody answers":                 {"", nil, exitRefused},
		"an outage is asked for, too":    {"3\n3\n", []string{"--revoke-first"}, exitRefused},
		"the number starts it":           {"3\n", []string{"--detach"}, exitOK},
		"the outage that one asked for ": {"3\nrevoke-first\n", []string{"--revoke-first", "--detach"}, exitOK},
	} {
		t.Run(sentence, func(t *testing.T) {
			code, out, errOut := n.rekey(t.Context(), tc.answer, append([]string{"emergency", "--provider", "google", "--why", "leaked"}, tc.args...)...)
			if code != tc.code || !strings.Contains(out, "EMERGENCY over 3 key(s), most exposed first") || !strings.Contains(out, "Type the number of keys (3)") {
				t.Fatalf("exit code %d, want %d\n%s%s", code, tc.code, out, errOut)
			}
			if !strings.Contains(out, "WARNING: no worker polls rekey, rekey-google: the emergency is kept and begins there when one does.") {
				t.Errorf("it does not say that no worker runs:\n%s", out)
			}
			if outage := strings.Contains(out, "these applications FAIL"); outage != strings.Contains(tc.answer+sentence, "outage") {
				t.Errorf("it warns of an outage: %v\n%s", outage, out)
			}
			_, err := n.client.DescribeWorkflowExecution(t.Context(), workflows.EmergencyID(emergencyOf(out)), "")
			if (err == nil) != (tc.code == exitOK) {
				t.Errorf("looking for the emergency: %v\n%s", err, out)
			}
			if err == nil {
				begun = append(begun, emergencyOf(out))
			}
		})
	}
	n.invariants()
	if len(begun) != 2 || n.Cloud.Calls("google-iam", "CreateServiceAccountKey") > 0 {
		t.Fatalf("without a worker something was done: %v", begun)
	}
	n.work(n.file)
	for _, id := range begun {
		if code, out, errOut := n.rekey(t.Context(), "", "emergency", "--resume", id); code != exitOK || !strings.Contains(out, "3 of 3 done.") {
			t.Errorf("when a worker came: exit code %d\n%s%s", code, out, errOut)
		}
	}
	for name, id := range n.old {
		if _, live := n.Cloud.LiveKeys()[id]; live {
			t.Errorf("the old key of %s still works", name)
		}
	}
	n.invariants()
}

func TestAnEmergencyShowsWhoWaitsForAPersonAndWhatFailed(t *testing.T) {
	n := newNight(t, 2, true)
	// The worker has a rekey.yaml without ci-01.
	text := n.YAML()
	from := strings.Index(text, "  - name: ci-01")
	to := strings.Index(text, "  - name: gpt")
	other := filepath.Join(t.TempDir(), "worker.yaml")
	if err := os.WriteFile(other, []byte(text[:from]+text[to:]), 0o600); err != nil {
		t.Fatal(err)
	}
	n.work(other)
	ctx, ctrlC := context.WithCancel(t.Context())
	var out, errOut output
	done := make(chan int)
	go func() {
		done <- run(ctx, n.args("emergency", "--all", "--why", "leaked", "--yes"), strings.NewReader(""), &out, &errOut)
	}()
	for _, said := range []string{
		"gpt                                      waits for a person (awaiting-key): rekey status gpt",
		`ci-01                                    FAILED: The worker's rekey.yaml has no key "ci-01".`,
		"ci-00                                    done, the old key is refused after",
	} {
		n.until(said, func() bool { return strings.Contains(out.String(), said) })
	}
	ctrlC()
	if code := <-done; code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	id := emergencyOf(out.String())
	if want := "the emergency goes on. To watch it again: rekey emergency --resume " + id; !strings.Contains(errOut.String(), want) {
		t.Errorf("after Ctrl-C it says %s", errOut.String())
	}
	if err := n.client.CancelWorkflow(t.Context(), workflows.EmergencyID(id), ""); err != nil {
		t.Fatal(err)
	}
	code, table, _ := n.rekey(t.Context(), "", "emergency", "--resume", id)
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"1 of 3 done, 1 failed, 1 wait for a person. Somebody cancelled the emergency; rotations that had begun go on.",
		"gpt: its rotation goes on: rekey status gpt", "ci-01: put it right, then: rekey emergency ci-01 --why …",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table does not say %q:\n%s", want, table)
		}
	}
	n.invariants("ci-00")
}

func TestTheMostExposedKeysComeFirst(t *testing.T) {
	cfg := &config.Config{Providers: map[string]config.Provider{"google": {}, "openai": {}}, Stores: map[string]config.Store{"gsm": {}, "local": {}}}
	for i, tier := range []rotation.Tier{rotation.Development, rotation.Production, rotation.Production1, rotation.Staging, rotation.Production1, rotation.Production} {
		provider := []string{"google", "openai"}[i%2]
		cfg.Keys = append(cfg.Keys, rotation.Key{Name: fmt.Sprintf("key-%d", 9-i), Provider: provider, Tier: tier, Stores: []rotation.Location{{Store: "gsm"}, {Store: "local"}}[i%3/2:]})
	}
	for sentence, tc := range map[string]struct {
		flags emergencyFlags
		want  string
	}{
		"all":                      {emergencyFlags{all: true}, "key-5 key-7 key-4 key-8 key-6 key-9"},
		"of a provider":            {emergencyFlags{provider: "openai"}, "key-4 key-8 key-6"},
		"of a tier":                {emergencyFlags{tier: "production-1"}, "key-5 key-7"},
		"of a store":               {emergencyFlags{store: "gsm"}, "key-5 key-8 key-6 key-9"},
		"of a store and a tier":    {emergencyFlags{store: "gsm", tier: "production-1"}, "key-5"},
		"of a provider and a tier": {emergencyFlags{provider: "openai", tier: "production"}, "key-4 key-8"},
	} {
		t.Run(sentence, func(t *testing.T) {
			keys, err := (&app{}).exposed(cfg, nil, tc.flags)
			var got []string
			for _, k := range keys {
				got = append(got, k.Name)
			}
			if err != nil || strings.Join(got, " ") != tc.want {
				t.Errorf("got %v, %v, want %s", got, err, tc.want)
			}
		})
	}
}

func TestTheScreenShowsFirstWhatNeedsSomebody(t *testing.T) {
	f := workflows.EmergencyProgress{ID: "abcd2345", Why: "leaked"}
	for i, state := range []workflows.KeyState{workflows.Done, workflows.Queued, workflows.UnderWay, workflows.Waiting, workflows.Failed, workflows.Done, workflows.Done} {
		f.Keys = append(f.Keys, workflows.KeyProgress{Key: fmt.Sprintf("key-%d", i), State: state, Phase: "p", Why: "because"})
	}
	lines := screenLines(f, "nobody answers", 10)
	if len(lines) > 10 {
		t.Errorf("%d lines on a screen of 10", len(lines))
	}
	text := strings.Join(lines, "\n")
	last := -1
	for _, want := range []string{"#", "3 of 7 done", "--resume abcd2345", "nobody answers", "key-4", "key-3", "key-2", "key-1", "and 3 more"} {
		at := strings.Index(text, want)
		if at < last {
			t.Errorf("%q does not stand where it belongs:\n%s", want, text)
		}
		last = at
	}
}

func TestWhatLeakedIsNamedByWordsThatCannotBeAKey(t *testing.T) {
	for name, want := range map[string][]string{
		"all":                           nil,
		"0123456789ab":                  {"0123456789ab"},
		"7, v8":                         {"7", "v8"},
		"gsm:7,vault:secret/data/ci:12": {"gsm:7", "vault:secret/data/ci:12"},
	} {
		m, err := emergencyFlags{by: "ana", why: "seen in a log", leaked: name}.message()
		if err != nil || !slices.Equal(m.Leaked, want) {
			t.Errorf("%q: %q, %v", name, m.Leaked, err)
		}
	}
	for _, name := range []string{"", "gsm:", ":7", "a:b:c:7", "7;8", "two words", "sk-proj-0123456789abcdefghij", "gsm:sk-proj-0123456789abcdefghij"} {
		m, err := emergencyFlags{by: "ana", why: "seen in a log", leaked: name}.message()
		if err == nil || len(m.Leaked) > 0 || name != "" && strings.Contains(err.Error(), name) {
			t.Errorf("%q is taken, or repeated: %q, %v", name, m.Leaked, err)
		}
	}
}
