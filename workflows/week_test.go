package workflows_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/workflows"
)

// envFleet is how many keys the week is tried with.
const envFleet = "REKEY_WEEK_KEYS"

// fleetFixture is a fixture for many keys.
type fleetFixture struct {
	*fixture
	keys []rotation.Key

	mu     sync.Mutex
	starts map[string][]time.Time
}

func newFleetFixture(t *testing.T, n int) *fleetFixture {
	f := &fleetFixture{fixture: &fixture{T: t, on: map[string][]func(){}}, starts: map[string][]time.Time{}}
	// A Monday, so that every run sees the same weekend.
	f.newEnv(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
	f.env.SetTestTimeout(10 * time.Minute)
	var err error
	if f.Scenario, err = scenario.Start(scenario.Options{Now: f.now, Mode: "create", KeyBits: 1024, Policy: []string{"grace: 12h", "quiet: 0s"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Stop)
	for i := range n {
		if _, err := f.Google(fmt.Sprintf("key-%03d", i), scenario.Alias); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Parse("rekey.yaml", []byte(f.YAML()))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := adapters.Open(context.Background(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.acts = &activities.Steps{Environment: opened.Environment, Rotations: neighbours{}}
	f.notifier = &activities.Notifier{Environment: opened.Environment, Channels: opened.Channels, UI: opened.UI}
	f.acts.Now = f.now
	f.register()
	workflows.RegisterLaunch(f.env)
	f.env.SetOnChildWorkflowStartedListener(func(info *workflow.Info, _ workflow.Context, args converter.EncodedValues) {
		var in workflows.Input
		if info.WorkflowType.Name == "RotateKey" && args.Get(&in) == nil {
			f.mu.Lock()
			f.starts[in.Key.Name] = append(f.starts[in.Key.Name], f.now())
			f.mu.Unlock()
		}
	})
	windows := []rotation.Window{
		{},
		{From: 60, To: 5 * 60, Zone: "Europe/Berlin"},
		{Days: []rotation.Day{"mon", "tue", "wed", "thu", "fri"}, From: 22 * 60, To: 2 * 60, Zone: "America/New_York"},
	}
	for i, k := range cfg.Keys {
		k.Policy.Window = windows[i%len(windows)]
		// Nobody is due twice: the environment gives all children the same run id, and so all rotations of a key the same
		// rotation id.
		k.Policy.Period = rotation.Duration(time.Duration(4+i%9) * day)
		f.keys = append(f.keys, k)
	}
	return f
}

// outage is when nobody beats: what was missed comes all at once when it is over, as from a server that was down.
var outage = struct{ from, to time.Duration }{2*day + 7*time.Hour, 4*day + 9*time.Hour}

// beat is the schedule of one key: it beats for a time, and does not wait for what it starts.
func (f *fleetFixture) beat(ctx workflow.Context, k rotation.Key, begin time.Time, length time.Duration) error {
	attribute := temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime")
	for _, at := range k.Policy.Window.Beat(f.acts.Install, k.Name).Next(begin, int(length/day)+1) {
		if at.After(begin.Add(length)) {
			return nil
		}
		comes := at
		if since := at.Sub(begin); since >= outage.from && since < outage.to {
			comes = begin.Add(outage.to)
		}
		if err := workflow.Sleep(ctx, comes.Sub(workflow.Now(ctx))); err != nil {
			return err
		}
		child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID: workflows.DispatchID(k.Name) + "-" + at.Format(time.RFC3339), ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON,
			TypedSearchAttributes: temporal.NewSearchAttributes(attribute.ValueSet(at)),
		})
		var out workflows.Dispatched
		if err := workflow.ExecuteChildWorkflow(child, workflows.Dispatch, workflows.DispatchInput{Key: k, Install: f.acts.Install}).Get(ctx, &out); err != nil {
			return fmt.Errorf("the beat of %s at %s: %w", k.Name, at, err)
		}
	}
	return nil
}

func TestInAWeekEveryKeyOfAFleetIsRotatedWhenItIsDueAndOnlyThen(t *testing.T) {
	t.Parallel()
	n := 18
	if text := os.Getenv(envFleet); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	f := newFleetFixture(t, n)
	const length = 8 * day
	begin := f.now()
	f.env.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		all := workflow.NewWaitGroup(ctx)
		var failed error
		for _, k := range f.keys {
			all.Add(1)
			workflow.Go(ctx, func(ctx workflow.Context) {
				defer all.Done()
				if err := f.beat(ctx, k, begin, length); err != nil {
					failed = err
				}
			})
		}
		all.Wait(ctx)
		if failed != nil {
			return failed
		}
		// The last rotations come to their end.
		return workflow.Sleep(ctx, 3*day)
	}, workflow.RegisterOptions{Name: "week"})
	f.env.ExecuteWorkflow("week")
	if err := f.env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	seconds := map[time.Time]int{}
	for i, k := range f.keys {
		starts, period := f.starts[k.Name], time.Duration(k.Policy.Period)
		last := begin
		for _, at := range starts {
			seconds[at.Truncate(time.Second)]++
			if at.Sub(last) < period {
				t.Errorf("%s: rotated at %s, %s after it was made; its period is %s", k.Name, at, at.Sub(last), period)
			}
			if !k.Policy.Window.Contains(at) {
				t.Errorf("%s: rotated at %s, outside of its window %s", k.Name, at, k.Policy.Window)
			}
			last = at
		}
		// From being due to the last beat of the week there is a beat a day, but for the weekend and the outage.
		if late := begin.Add(length).Sub(last) - period; late > 4*day {
			t.Errorf("%s (%d): %s late at the end of the week; rotated at %v", k.Name, i, late, starts)
		}
		for _, broken := range f.Cloud.Check(scenario.Rules(k.Name, scenario.Alias)) {
			t.Errorf("%s: %s", k.Name, broken)
		}
	}
	if orphans := f.Cloud.Orphans(); len(orphans) > 0 {
		t.Errorf("orphans: %v", orphans)
	}
	if live := len(f.Cloud.LiveKeys()); live != n {
		t.Errorf("%d keys are live, want one for each of %d", live, n)
	}
	most := 0
	for _, s := range seconds {
		most = max(most, s)
	}
	rotated := 0
	for _, s := range f.starts {
		rotated += len(s)
	}
	t.Logf("%d keys, %d rotations in a week, at most %d in one second", n, rotated, most)
	if rotated < n/3 || most > 1+n/10 {
		t.Errorf("%d rotations, %d of them in one second: %v", rotated, most, slices.Sorted(crowded(seconds)))
	}
}

// crowded names the seconds in which more than one rotation began.
func crowded(m map[time.Time]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for at, n := range m {
			if n > 1 && !yield(fmt.Sprintf("%s ×%d", at.Format(time.RFC3339), n)) {
				return
			}
		}
	}
}
