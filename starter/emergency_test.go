package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/internal/testlog"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// night is a simulated cloud with keys, and Temporal.
type night struct {
	*fixture
	names []string
	old   map[string]string
}

// newNight has so many Google keys, called ci-00, ci-01, …; byHand adds the OpenAI key gpt.
func newNight(t *testing.T, keys int, byHand bool) *night {
	t.Helper()
	n := &night{old: map[string]string{}}
	add := func(s *scenario.Scenario) (err error) {
		for i := 0; i < keys && err == nil; i++ {
			name := fmt.Sprintf("ci-%02d", i)
			n.names = append(n.names, name)
			n.old[name], err = s.Google(name, scenario.Alias)
		}
		if byHand && err == nil {
			n.names = append(n.names, "gpt")
			n.old["gpt"], err = s.OpenAIKey("gpt", scenario.Alias)
		}
		return err
	}
	n.fixture = newFixtureWith(t, testenv.Options{SimOptions: testenv.SimOptions{Keys: add, Scenario: scenario.Options{
		// Uploaded keys: one that was made, and not stored yet, when a worker died is known to be ours. About one that Google
		// made a person is asked.
		Policy: []string{"step_timeout: 10s"}, RequestTimeout: "1s", Mode: "upload", KeyBits: 1024,
	}}})
	return n
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

// emergencyOf finds the id that the command has printed.
func emergencyOf(text string) string {
	_, id, _ := strings.Cut(text, "rekey emergency --resume ")
	return id[:min(8, len(id))]
}

func TestAnEmergencyGoesOnWhenCommandAndWorkerAreKilledHalfWay(t *testing.T) {
	t.Parallel()
	n := newNight(t, 20, false)
	n.StartWorkerProcess()
	cmd, out := n.command("", "emergency", "--all", "--why", "the laptop was stolen", "--yes", "--concurrency", "4")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.Await("some keys are done", func() bool { return strings.Count(out.String(), "done, the old key is refused") >= 2 })
	kill(cmd)
	n.StopWorkerProcess()
	id := emergencyOf(out.String())
	if strings.Count(out.String(), "done, the old key is refused") == 20 {
		t.Fatal("it was over before it was killed")
	}
	n.StartWorkerProcess()
	code, text, errOut := n.run(t.Context(), "", "emergency", "--resume", id, "--json")
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
		progress, _, notRead := client.New(n.Client).EmergencyProgress(t.Context(), id)
		t.Fatalf("exit code %d: %v\n%s%s\n%+v, %v", code, err, text, errOut, progress, notRead)
	}
	for _, k := range got.Keys {
		if k.State != "done" || k.New == nil || k.Refused == nil || *k.Refused < *k.New {
			t.Errorf("%+v", k)
		}
	}
	n.invariants(n.names...)
	// Watched once more, long after: the same table, with no second rotation.
	if code, again, _ := n.run(t.Context(), "", "emergency", "--resume", id); code != exitOK || !strings.Contains(again, "OLD KEY REFUSED AFTER") {
		t.Errorf("exit code %d\n%s", code, again)
	}
}

func TestAnEmergencyAsksForTheNumberOfKeys(t *testing.T) {
	t.Parallel()
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
			code, out, errOut := n.run(t.Context(), tc.answer, append([]string{"emergency", "--provider", "google", "--why", "leaked"}, tc.args...)...)
			if code != tc.code || !strings.Contains(out, "EMERGENCY over 3 key(s), most exposed first") || !strings.Contains(out, "Type the number of keys (3)") {
				t.Fatalf("exit code %d, want %d\n%s%s", code, tc.code, out, errOut)
			}
			if !strings.Contains(out, "WARNING: no worker polls rekey, rekey-google: the emergency is kept and begins there when one does.") {
				t.Errorf("it does not say that no worker runs:\n%s", out)
			}
			if outage := strings.Contains(out, "these applications FAIL"); outage != strings.Contains(tc.answer+sentence, "outage") {
				t.Errorf("it warns of an outage: %v\n%s", outage, out)
			}
			_, err := n.Client.DescribeWorkflowExecution(t.Context(), workflows.EmergencyID(emergencyOf(out)), "")
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
	n.StartWorkers()
	for _, id := range begun {
		if code, out, errOut := n.run(t.Context(), "", "emergency", "--resume", id); code != exitOK || !strings.Contains(out, "3 of 3 done.") {
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
	t.Parallel()
	n := newNight(t, 2, true)
	// The worker has a rekey.yaml without ci-01.
	if err := n.Configure(func(text string) string {
		return text[:strings.Index(text, "  - name: ci-01")] + text[strings.Index(text, "  - name: gpt"):]
	}); err != nil {
		t.Fatal(err)
	}
	n.StartWorkers()
	if err := n.Configure(nil); err != nil {
		t.Fatal(err)
	}
	ctx, ctrlC := context.WithCancel(t.Context())
	var out, errOut testlog.Buffer
	done := make(chan int)
	go func() {
		done <- run(ctx, n.args("emergency", "--all", "--why", "leaked", "--yes"), strings.NewReader(""), &out, &errOut)
	}()
	for _, said := range []string{
		"gpt                                      waits for a person (awaiting-key): rekey status gpt",
		`ci-01                                    FAILED: The worker's rekey.yaml has no key "ci-01".`,
		"ci-00                                    done, the old key is refused after",
	} {
		n.Await(said, func() bool { return strings.Contains(out.String(), said) })
	}
	ctrlC()
	if code := <-done; code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	id := emergencyOf(out.String())
	if want := "the emergency goes on. To watch it again: rekey emergency --resume " + id; !strings.Contains(errOut.String(), want) {
		t.Errorf("after Ctrl-C it says %s", errOut.String())
	}
	if err := n.Client.CancelWorkflow(t.Context(), workflows.EmergencyID(id), ""); err != nil {
		t.Fatal(err)
	}
	code, table, _ := n.run(t.Context(), "", "emergency", "--resume", id)
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
