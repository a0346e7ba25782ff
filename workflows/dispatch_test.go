package workflows_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// dispatchFixture is a fixture for dispatchers. It counts the rotations that they start.
func dispatchFixture(t *testing.T, s setup) (r *fixture, rotations *[]string) {
	r = newFixture(t, s)
	workflows.RegisterLaunch(r.env)
	rotations = &[]string{}
	r.env.SetOnChildWorkflowStartedListener(func(info *workflow.Info, _ workflow.Context, _ converter.EncodedValues) {
		if info.WorkflowType.Name == "RotateKey" {
			*rotations = append(*rotations, info.WorkflowExecution.ID+" on "+info.TaskQueueName)
		}
	})
	return r, rotations
}

// old makes the key old enough.
func (r *fixture) old() { r.key.Policy.Period = 0 }

// dispatch runs a dispatcher that the schedule meant to start at a moment.
func (r *fixture) dispatch(beat time.Time) (workflows.Dispatched, error) {
	r.Helper()
	attribute := temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime")
	if err := r.env.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes(attribute.ValueSet(beat))); err != nil {
		r.Fatal(err)
	}
	r.env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflows.DispatchID(r.name)})
	r.env.ExecuteWorkflow(workflows.Dispatch, workflows.DispatchInput{Key: r.key, Install: r.acts.Install})
	var out workflows.Dispatched
	if err := r.env.GetWorkflowError(); err != nil {
		return out, err
	}
	if err := r.env.GetWorkflowResult(&out); err != nil {
		r.Fatal(err)
	}
	return out, nil
}

// hours is a window of so many hours that opens so long after the beginning of the test.
func (r *fixture) hours(offset time.Duration, length int) rotation.Window {
	h, _, _ := r.now().Add(offset).Clock()
	return rotation.Window{From: rotation.Clock(h * 60), To: rotation.Clock((h + length) % 24 * 60)}
}

func TestABeatStartsARotationOnlyIfThereIsWork(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		setup   setup
		arrange func(*fixture)
		late    time.Duration
		started bool
		why     string
	}{
		"an old key is rotated":                         {bothStores(), (*fixture).old, 0, true, "Rotation started: The key was made at"},
		"a fresh key is left alone":                     {bothStores(), func(*fixture) {}, 0, false, "No rotation: The key was made at"},
		"a key of unknown age is reported":              {setup{openai: true, stores: []string{scenario.Latest}}, func(*fixture) {}, 0, false, "No rotation: Neither the provider nor a store reports when the key was made"},
		"a beat that is a week late is taken up":        {bothStores(), (*fixture).old, 7 * 24 * time.Hour, true, "Rotation started"},
		"a late beat in the window is taken up":         {bothStores(), func(r *fixture) { r.old(); r.key.Policy.Window = r.hours(-time.Hour, 3) }, 24 * time.Hour, true, "Rotation started"},
		"a late beat outside the window does nothing":   {bothStores(), func(r *fixture) { r.old(); r.key.Policy.Window = r.hours(-5*time.Hour, 2) }, 5 * time.Hour, false, "No rotation: The key's window (any day"},
		"a day that is blacked out is none for a start": {bothStores(), func(r *fixture) { r.old(); r.key.Policy.Window.Blackout = []rotation.Dates{today(r)} }, 0, false, "1 blackout(s)) is closed at"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r, rotations := dispatchFixture(t, tc.setup)
			tc.arrange(r)
			out, err := r.dispatch(r.now().Add(-tc.late))
			if err != nil || out.Started != tc.started || !strings.Contains(out.Why, tc.why) {
				t.Errorf("%+v, %v", out, err)
			}
			want := []string(nil)
			if tc.started {
				want = []string{workflows.ID(r.key.Name) + " on " + workflows.ProviderTaskQueue(r.key.Provider)}
			}
			if !slices.Equal(*rotations, want) {
				t.Errorf("started %v, want %v", *rotations, want)
			}
		})
	}
}

func today(r *fixture) rotation.Dates {
	y, m, d := r.now().UTC().Date()
	date := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	// The test may run over midnight.
	return rotation.Dates{First: date, Last: date.AddDate(0, 0, 1)}
}

func TestADispatcherAsksForAnHourThenFailsForAllToSee(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		away time.Duration
		ok   bool
	}{"away for ten minutes": {10 * time.Minute, true}, "away for days": {72 * time.Hour, false}} {
		t.Run(sentence, func(t *testing.T) {
			r, rotations := dispatchFixture(t, bothStores())
			r.old()
			remove := r.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "ListServiceAccountKeys", Kind: simcloud.Refuse, Code: 503, Times: 10000})
			r.after(tc.away, remove)
			begin := r.now()
			out, err := r.dispatch(begin)
			if tc.ok && (err != nil || !out.Started) {
				t.Errorf("%+v, %v", out, err)
			}
			if !tc.ok && (err == nil || !strings.Contains(err.Error(), "It could not be determined whether ci is due; the next scheduled run asks again.") || len(*rotations) > 0) {
				t.Errorf("%v; started %v", err, *rotations)
			}
			if asked := r.now().Sub(begin); !tc.ok && asked > 70*time.Minute {
				t.Errorf("it asked for %s, and would meet the next beat", asked)
			}
		})
	}
}

func TestAWorkerOfAnotherInstallRefusesTheBeat(t *testing.T) {
	t.Parallel()
	r, rotations := dispatchFixture(t, bothStores())
	r.old()
	r.acts.Install = "other1"
	r.env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflows.DispatchID(r.name)})
	r.env.ExecuteWorkflow(workflows.Dispatch, workflows.DispatchInput{Key: r.key, Install: "scene1"})
	err := r.env.GetWorkflowError()
	if err == nil || !strings.Contains(err.Error(), "belongs to rekey installation scene1, this worker to other1") || len(*rotations) > 0 {
		t.Errorf("%v; started %v", err, *rotations)
	}
}

func TestSevenBeatsAtOnceAreOneRotation(t *testing.T) {
	t.Parallel()
	r, rotations := dispatchFixture(t, bothStores())
	r.old()
	week := func(ctx workflow.Context) (all []workflows.Dispatched, err error) {
		for range 7 {
			var one workflows.Dispatched
			in := workflows.DispatchInput{Key: r.key, Install: r.acts.Install}
			if err := workflow.ExecuteChildWorkflow(ctx, workflows.Dispatch, in).Get(ctx, &one); err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return all, nil
	}
	r.env.RegisterWorkflow(week)
	r.env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "week"})
	r.env.ExecuteWorkflow(week)
	var all []workflows.Dispatched
	if err := r.env.GetWorkflowResult(&all); err != nil {
		t.Fatal(err)
	}
	for i, one := range all {
		if one.Started != (i == 0) || one.UnderWay != (i > 0) {
			t.Errorf("beat %d: %+v", i, one)
		}
	}
	if len(*rotations) != 1 {
		t.Errorf("started %v", *rotations)
	}
}

// neighbours lists rotations under way as Temporal would.
type neighbours struct {
	activities.Rotations
	since map[string]time.Time
}

func (n neighbours) Running(_ context.Context, key string) (time.Time, bool, error) {
	since, ok := n.since[key]
	return since, ok, nil
}

func TestARotationGivesWayToANeighbourThatBeganEarlier(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		reason   rotation.Reason
		offset   time.Duration
		givesWay bool
	}{
		"a scheduled one":         {rotation.Scheduled, -time.Second, true},
		"one that a person asks":  {rotation.Manual, -time.Second, true},
		"not to a later one":      {rotation.Manual, time.Second, false},
		"an emergency does not":   {rotation.Emergency, -time.Second, false},
		"one that began together": {rotation.Manual, 0, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, bothStores().policy(quick))
			r.in.Reason, r.in.Key.Policy.Period = tc.reason, 0
			r.in.Key.ConflictsWith = []string{"active"}
			r.acts.Rotations = neighbours{since: map[string]time.Time{"ci": r.now(), "active": r.now().Add(tc.offset)}}
			res := r.run()
			if !tc.givesWay {
				r.replaced(res)
				return
			}
			if !res.NotDue || res.Outcome != "Not due: ci conflicts with active, which is rotating now." || res.Phase != rotation.Completed {
				t.Errorf("%+v", res)
			}
			if r.published() != r.oldID || slices.Contains(r.started, "Prepare") {
				t.Errorf("it did more than give way: %v", r.started)
			}
		})
	}
	t.Run("a key without neighbours asks nobody", func(t *testing.T) {
		r := newFixture(t, bothStores().policy(quick))
		r.replaced(r.run())
		if slices.Contains(r.started, activities.ConflictName) {
			t.Error("it asked")
		}
	})
}
