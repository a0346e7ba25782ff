package workflows_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/testsuite"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// metadata is what a workflow shows in the Temporal UI about itself.
func metadata(t *testing.T, env *testsuite.TestWorkflowEnvironment) *sdkpb.WorkflowMetadata {
	t.Helper()
	m := &sdkpb.WorkflowMetadata{}
	v, err := env.QueryWorkflow("__temporal_workflow_metadata")
	if err == nil {
		err = v.Get(m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// described checks that everything in a list has a description, and that a person can paste the inputs that it shows.
func described(t *testing.T, what string, all []*sdkpb.WorkflowInteractionDefinition, want ...string) {
	t.Helper()
	inputs := regexp.MustCompile(`\{"[^{}]*\}`)
	var names []string
	for _, d := range all {
		if strings.HasPrefix(d.GetName(), "__") {
			continue // Temporal's own
		}
		names = append(names, d.GetName())
		if d.GetDescription() == "" {
			t.Errorf("the %s %s is not described", what, d.GetName())
		}
		kind := rotation.DecisionKind(d.GetName())
		if !slices.Contains(rotation.DecisionKinds(), kind) {
			continue
		}
		found := inputs.FindAllString(d.GetDescription(), -1)
		if len(found) == 0 {
			t.Errorf("the description of the %s %s shows no input", what, kind)
		}
		for _, input := range found {
			var m rotation.DecisionMessage
			in := json.NewDecoder(strings.NewReader(input))
			in.DisallowUnknownFields()
			if err := in.Decode(&m); err != nil {
				t.Errorf("%s: %v in %s", kind, err, input)
			}
			if err := complete(kind, m); err != nil {
				t.Errorf("%s %s would be refused: %v", kind, input, err)
			}
		}
	}
	for _, name := range want {
		if !slices.Contains(names, name) {
			t.Errorf("the %s %s is not listed among %v", what, name, names)
		}
	}
}

func TestEveryMessageIsDescribedInTheUI(t *testing.T) {
	t.Parallel()
	var kinds []string
	for _, k := range rotation.DecisionKinds() {
		kinds = append(kinds, string(k))
	}
	r := newFixture(t, manualKey())
	r.after(time.Hour, func() {
		d := metadata(t, r.env).GetDefinition()
		described(t, "signal", d.GetSignalDefinitions(), kinds...)
		described(t, "update", d.GetUpdateDefinitions(), kinds...)
		described(t, "query", d.GetQueryDefinitions(), workflows.StatusQuery)
		r.signal(rotation.RollBack, rotation.DecisionMessage{})
	})
	r.run()

	p := newEmergencyFixture(t, 1)
	p.run()
	described(t, "query", metadata(t, p.env).GetDefinition().GetQueryDefinitions(), workflows.ProgressQuery)
}

func TestWhatStartsRotationsExplainsItselfInTheUI(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("<b>`[x](http://y)`</b> ", 200)
	fits := func(t *testing.T, text string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing in:\n%s", want, text)
			}
		}
		if len(text) >= 2048 || strings.Contains(text, "<b>") {
			t.Errorf("%d bytes:\n%s", len(text), text)
		}
	}
	t.Run("an emergency over hundreds of keys names the first that wait, whole", func(t *testing.T) {
		p := newEmergencyFixture(t, 300)
		p.in.Message.By, p.in.Message.Why = "night shift", long
		p.in.Concurrency = 300
		p.play = func(key string, _ int, _ time.Duration) activities.RotationStatus {
			if key < "key-150" {
				return activities.RotationStatus{Running: true, Phase: rotation.AwaitingRevocation}
			}
			return activities.RotationStatus{Served: true, Phase: rotation.RolledBack, Outcome: long}
		}
		p.env.RegisterDelayedCallback(func() {
			text := p.details()
			fits(t, text, "150 failed", "150 wait for a person", "User Metadata", "`rotate/key-000` awaiting-revocation", "Request Cancellation", "rekey emergency --resume abcd2345")
			for _, line := range strings.Split(text, "\n") {
				if strings.Count(line, "`")%2 != 0 {
					t.Errorf("cut off: %s", line)
				}
			}
			p.env.CancelWorkflow()
		}, time.Minute)
		p.run()
		fits(t, p.details(), "Somebody cancelled the emergency")
		fits(t, workflows.EmergencyDetails(p.in), "300 key(s)", "night shift", "without a grace period", "Request Cancellation")
		fits(t, workflows.EmergencySummary(p.in), "emergency over 300 key(s)")
	})
	t.Run("an emergency that goes on by itself says that nobody needs to do anything", func(t *testing.T) {
		p := newEmergencyFixture(t, 3)
		p.play = p.after(time.Minute)
		p.env.RegisterDelayedCallback(func() { fits(t, p.details(), "3 under way", "No action needed") }, 30*time.Second)
		p.run()
		fits(t, p.details(), "3 of 3 done")
	})
	t.Run("a trigger says what it looks for, and what came of it", func(t *testing.T) {
		r := newFixture(t, bothStores())
		in := workflows.TriggerInput{Source: "scanner", Delivery: "d1", Fingerprints: []string{"0123456789ab"}, Leaked: true, Why: long}
		r.env.SetOnActivityStartedListener(nil)
		out, err := triggered(t, r, &starters{}, in)
		if err != nil {
			t.Fatal(err)
		}
		fits(t, metadata(t, r.env).GetCurrentDetails(), "Nothing was started", out.Why)
		fits(t, workflows.TriggerDetails(in), "scanner", "reports a leak", "0123456789ab", "neither approve nor revoke first")
	})
	t.Run("a dispatcher says what it found", func(t *testing.T) {
		r, _ := dispatchFixture(t, setup{stores: []string{scenario.Alias}})
		r.whenStarted("Due", func() {
			fits(t, metadata(t, r.env).GetCurrentDetails(), "Checking with store and provider whether **ci** is due", "`rotate/ci`", "the next scheduled run asks again")
		})
		if _, err := r.dispatch(r.now()); err != nil {
			t.Fatal(err)
		}
		fits(t, metadata(t, r.env).GetCurrentDetails(), "No rotation: The key was made at")
	})
	t.Run("a rotation says what cancel and terminate mean", func(t *testing.T) {
		in := workflows.Input{Key: rotation.Key{Name: "ci", Account: "a", Provider: "google"}, Reason: rotation.Manual, By: "o", Why: long}
		fits(t, workflows.StaticDetails(in), "*Request Cancellation* means: roll back", "Do not *Terminate*", "Never put a key into a message")
		fits(t, workflows.StaticSummary(in), "manual rotation of ci")
	})
}
