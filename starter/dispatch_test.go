package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// workingFixture has schedules, and keys in a simulated cloud, where they were made long ago.
type workingFixture struct {
	*fixture
}

func newWorkingFixture(t *testing.T, install string, names []string, policy ...string) *workingFixture {
	t.Helper()
	var ago atomic.Int64
	ago.Store(int64(100 * 24 * time.Hour))
	s := newFixtureWith(t, testenv.Options{SimOptions: testenv.SimOptions{Keys: testenv.Keys(names...), Scenario: scenario.Options{
		Install: install, KeyBits: 1024, Policy: append([]string{"soak: 0s", "quiet: 0s"}, policy...),
		Now: func() time.Time { return time.Now().Add(-time.Duration(ago.Load())) },
	}}})
	ago.Store(0)
	return &workingFixture{s}
}

// beats waits until the schedule of a key has started n dispatchers and all have ended, and gives their results.
func (w *workingFixture) beats(key string, n int) (all []workflows.Dispatched) {
	w.Helper()
	w.Await("all dispatchers have ended", func() bool {
		info := scheduleOf(w, w.Temporal, key).Info
		if info.NumActions < n || len(info.RunningWorkflows) > 0 {
			return false
		}
		all = nil
		for _, a := range info.RecentActions {
			var one workflows.Dispatched
			run := w.Client.GetWorkflow(w.Context(), a.StartWorkflowResult.WorkflowID, a.StartWorkflowResult.FirstExecutionRunID)
			if err := client.New(w.Client).WaitRun(w.Context(), run.GetID(), run.GetRunID(), &one); err != nil {
				w.Fatal(err)
			}
			if _, err := w.Replayed(run.GetID(), run.GetRunID(), "dispatch"); err != nil {
				w.Error(err)
			}
			all = append(all, one)
		}
		return true
	})
	return all
}

func TestAWeekOfMissedBeatsIsOneLateRotationAndATerminatedOneIsTakenUp(t *testing.T) {
	t.Parallel()
	// Late beats spread themselves over some minutes. This installation is one whose beats do not wait.
	install := ""
	for n := 0; install == ""; n++ {
		if name := fmt.Sprintf("wk%04d", n); rotation.Spread(name, "week", 10*time.Minute) == 0 {
			install = name
		}
	}
	w := newWorkingFixture(t, install, []string{"week"}, "grace: 1h", "recheck: 1h")
	out := w.must(exitOK, "Applied: 1 created", "", "apply", "--yes")
	for _, want := range []string{"due       The key was made at", "touches   google:week@acme-prod.iam.gserviceaccount.com, gsm:week", "revokes   "} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan does not say %q:\n%s", want, out)
		}
	}
	schedule := w.Client.ScheduleClient().GetHandle(t.Context(), workflows.ScheduleID("week"))
	backfill := func(overlap enumspb.ScheduleOverlapPolicy) {
		t.Helper()
		// From noon to noon, so that seven beats lie in it whenever the key beats.
		if err := schedule.Backfill(t.Context(), sdkclient.ScheduleBackfillOptions{Backfill: []sdkclient.ScheduleBackfill{{
			Start: time.Now().AddDate(0, 0, -7), End: time.Now(), Overlap: overlap,
		}}}); err != nil {
			t.Fatal(err)
		}
	}

	// No worker runs: the dispatcher of the first beat waits, the other six beats are skipped, and the plan says so.
	backfill(enumspb.SCHEDULE_OVERLAP_POLICY_SKIP)
	w.Await("the beats were counted", func() bool { return scheduleOf(w, w.Temporal, "week").Info.NumActionsSkippedOverlap == 6 })
	w.must(exitOK, "missed    6 beats since the schedule was made: 6 (an earlier beat still waited for a worker", "", "plan")
	// Seven more, each with its dispatcher.
	backfill(enumspb.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL)
	w.StartWorkers()
	started := 0
	for _, b := range w.beats("week", 8) {
		if b.Started {
			started++
		} else if !b.UnderWay {
			t.Errorf("a beat came to nothing: %+v", b)
		}
		if b.Beat.IsZero() || b.Why == "" {
			t.Errorf("a beat does not say when and why: %+v", b)
		}
	}
	mints := func() int { return w.Cloud.Calls(simcloud.GoogleIAMService, "UploadServiceAccountKey") }
	w.AwaitPhase("week", rotation.Grace)
	if started != 1 || mints() != 1 {
		t.Errorf("eight beats have started %d rotations and minted %d keys", started, mints())
	}
	w.must(exitOK, "a rotation is running", "", "plan")

	// Terminated in grace, with both keys live: the next beat takes it up and makes no other key.
	if err := w.Client.TerminateWorkflow(t.Context(), workflows.ID("week"), "", "the test says so"); err != nil {
		t.Fatal(err)
	}
	if err := schedule.Trigger(t.Context(), sdkclient.ScheduleTriggerOptions{}); err != nil {
		t.Fatal(err)
	}
	all := w.beats("week", 9)
	if last := all[len(all)-1]; !last.Started || last.Verdict.Work != rotation.Finish {
		t.Errorf("the beat after a terminated rotation: %+v", last)
	}
	w.AwaitPhase("week", rotation.Grace)
	w.must(exitOK, "", "", "finish-grace", "week", "--why", "the test says so")
	w.Result("week", "")
	if live := len(w.Cloud.LiveKeys()); live != 1 || mints() != 1 {
		t.Errorf("%d keys are live, %d were minted", live, mints())
	}
	// A beat after that finds nothing to do.
	if err := schedule.Trigger(t.Context(), sdkclient.ScheduleTriggerOptions{}); err != nil {
		t.Fatal(err)
	}
	all = w.beats("week", 10)
	if last := all[len(all)-1]; last.Started || last.Verdict.Rule != "fresh" {
		t.Errorf("the beat after a finished rotation: %+v", last)
	}
	w.must(exitOK, "missed    6 beats since the schedule was made", "", "plan")
	for _, broken := range w.Cloud.Check(scenario.Rules("week", scenario.Alias)) {
		t.Error(broken)
	}
}

func TestKeysThatKeepApartAreNotRotatedTogether(t *testing.T) {
	t.Parallel()
	names := []string{"apart-a", "apart-b", "apart-c"}
	w := newWorkingFixture(t, "apart1", names, "grace: 2s", "recheck: 1s")
	if err := w.Configure(func(text string) string {
		for _, n := range []string{"apart-b", "apart-c"} {
			text = strings.Replace(text, "  - name: "+n+"\n", "  - name: "+n+"\n    conflicts_with: [apart-a]\n", 1)
		}
		return strings.Replace(text, "conflicts_with: [apart-a]\n    provider", "conflicts_with: [apart-a, apart-c]\n    provider", 1)
	}); err != nil {
		t.Fatal(err)
	}
	w.StartWorkers()
	runs := make([]sdkclient.WorkflowRun, len(names))
	var all sync.WaitGroup
	for i, n := range names {
		all.Go(func() {
			k, _ := w.Config.Key(n)
			var err error
			if runs[i], err = client.New(w.Client).Start(context.Background(), client.Request{Key: k, Reason: rotation.Scheduled}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	rotated := 0
	for i, run := range runs {
		var res rotation.Result
		if err := client.New(w.Client).WaitRun(t.Context(), run.GetID(), run.GetRunID(), &res); err != nil {
			t.Fatal(err)
		}
		switch {
		case res.NotDue && strings.HasPrefix(res.Outcome, "Not due: "+names[i]+" conflicts with apart-"):
		case res.Phase == rotation.Completed && !res.NotDue:
			rotated++
		default:
			t.Errorf("%s: %+v", names[i], res)
		}
	}
	if rotated != 1 {
		t.Errorf("%d of three keys that keep apart were rotated together", rotated)
	}
}
