package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/workflows"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// workingFixture has schedules, and keys in a simulated cloud, where they were made long ago. Tests with one do not
// run in parallel: their workers poll the same task queues.
type workingFixture struct {
	*scheduleFixture
	*scenario.Scenario
	cfg *config.Config
}

func newWorkingFixture(t *testing.T, install string, names []string, policy ...string) *workingFixture {
	t.Helper()
	var mu sync.Mutex
	ago := 100 * 24 * time.Hour
	w := &workingFixture{scheduleFixture: newScheduleFixture(t, install)}
	var err error
	w.Scenario, err = scenario.Start(scenario.Options{Install: install, KeyBits: 1024, Policy: append([]string{"soak: 0s", "quiet: 0s"}, policy...), Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(-ago)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	for _, n := range names {
		if _, err := w.Google(n, scenario.Alias); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	ago = 0
	mu.Unlock()
	w.yaml(w.YAML())
	return w
}

func (w *workingFixture) yaml(text string) {
	w.Helper()
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	var err error
	if w.cfg, err = config.Load(w.file); err != nil {
		w.Fatal(err)
	}
}

// work starts workers.
func (w *workingFixture) work() {
	w.Helper()
	acts, err := adapters.Open(w.Context(), w.cfg, nil)
	if err != nil {
		w.Fatal(err)
	}
	running, err := engine.Start(w.Context(), w.client, sdkclient.DefaultNamespace, acts, engine.Options{})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(running.Stop)
}

// beats waits until the schedule of a key has started n dispatchers and all have ended, and gives their results.
func (w *workingFixture) beats(key string, n int) (all []workflows.Dispatched) {
	w.Helper()
	w.until("all dispatchers have ended", func() bool {
		info := w.describe(key).Info
		if info.NumActions < n || len(info.RunningWorkflows) > 0 {
			return false
		}
		all = nil
		for _, a := range info.RecentActions {
			var one workflows.Dispatched
			run := w.client.GetWorkflow(w.Context(), a.StartWorkflowResult.WorkflowID, a.StartWorkflowResult.FirstExecutionRunID)
			if err := client.New(w.client).WaitRun(w.Context(), run.GetID(), run.GetRunID(), &one); err != nil {
				w.Fatal(err)
			}
			w.replays(run)
			all = append(all, one)
		}
		return true
	})
	return all
}

// replays checks that the code of today comes to the same decisions on the history of a dispatcher.
func (w *workingFixture) replays(run sdkclient.WorkflowRun) {
	w.Helper()
	h, err := replaytest.Check(w.Context(), w.client, run.GetID(), run.GetRunID())
	if err == nil {
		err = replaytest.Keep(h, "dispatch")
	}
	if err != nil {
		w.Error(err)
	}
}

func (w *workingFixture) until(what string, done func() bool) {
	w.Helper()
	for deadline := time.Now().Add(60 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain until %s", what)
		}
	}
}

// waitFor waits until a rotation is in a phase.
func (w *workingFixture) waitFor(key string, phase rotation.Phase) {
	w.Helper()
	w.until(key+" is in "+string(phase), func() bool {
		if res, closed, err := client.New(w.client).Result(w.Context(), key); err == nil && closed {
			return res.Phase == phase
		}
		s, err := client.New(w.client).Status(w.Context(), key)
		return err == nil && s.Phase == phase
	})
}

func TestAWeekOfMissedBeatsIsOneLateRotationAndATerminatedOneIsTakenUp(t *testing.T) {
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
	schedule := w.client.ScheduleClient().GetHandle(t.Context(), workflows.ScheduleID("week"))
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
	w.until("the beats were counted", func() bool { return w.describe("week").Info.NumActionsSkippedOverlap == 6 })
	w.must(exitOK, "missed    6 beats since the schedule was made: 6 (an earlier beat still waited for a worker", "", "plan")
	// Seven more, each with its dispatcher.
	backfill(enumspb.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL)
	w.work()
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
	w.waitFor("week", rotation.Grace)
	if started != 1 || mints() != 1 {
		t.Errorf("eight beats have started %d rotations and minted %d keys", started, mints())
	}
	w.must(exitOK, "a rotation is running", "", "plan")

	// Terminated in grace, with both keys live: the next beat takes it up and makes no other key.
	if err := w.client.TerminateWorkflow(t.Context(), workflows.ID("week"), "", "the test says so"); err != nil {
		t.Fatal(err)
	}
	if err := schedule.Trigger(t.Context(), sdkclient.ScheduleTriggerOptions{}); err != nil {
		t.Fatal(err)
	}
	all := w.beats("week", 9)
	if last := all[len(all)-1]; !last.Started || last.Verdict.Work != rotation.Finish {
		t.Errorf("the beat after a terminated rotation: %+v", last)
	}
	w.waitFor("week", rotation.Grace)
	w.must(exitOK, "", "", "finish-grace", "week", "--why", "the test says so")
	w.waitFor("week", rotation.Completed)
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
	names := []string{"apart-a", "apart-b", "apart-c"}
	w := newWorkingFixture(t, "apart1", names, "grace: 2s", "recheck: 1s")
	text := w.YAML()
	for _, n := range []string{"apart-b", "apart-c"} {
		text = strings.Replace(text, "  - name: "+n+"\n", "  - name: "+n+"\n    conflicts_with: [apart-a]\n", 1)
	}
	text = strings.Replace(text, "conflicts_with: [apart-a]\n    provider", "conflicts_with: [apart-a, apart-c]\n    provider", 1)
	w.yaml(text)
	w.work()
	runs := make([]sdkclient.WorkflowRun, len(names))
	var all sync.WaitGroup
	for i, n := range names {
		all.Go(func() {
			k, _ := w.cfg.Key(n)
			var err error
			if runs[i], err = client.New(w.client).Start(context.Background(), client.Request{Key: k, Reason: rotation.Scheduled}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	rotated := 0
	for i, run := range runs {
		var res rotation.Result
		if err := client.New(w.client).WaitRun(t.Context(), run.GetID(), run.GetRunID(), &res); err != nil {
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
