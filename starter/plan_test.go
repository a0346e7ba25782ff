package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/starter/schedules"
	"github.com/rekeyhq/rekey/workflows"
)

// scheduleFixture is a rekey.yaml and a Temporal.
type scheduleFixture struct {
	testing.TB
	*testenv.Temporal
	*commandLine
}

// newScheduleFixture starts with a file that has the given keys, each a piece of YAML after the common part.
func newScheduleFixture(t *testing.T, install string, keys ...string) *scheduleFixture {
	t.Helper()
	return newInstallation(t, testenv.StartTemporal(t, testenv.TemporalOptions{}), install, keys...)
}

// newInstallation is a rekey.yaml beside others in the same namespace.
func newInstallation(t *testing.T, x *testenv.Temporal, install string, keys ...string) *scheduleFixture {
	t.Helper()
	r := &scheduleFixture{t, x, &commandLine{t: t, file: filepath.Join(t.TempDir(), "rekey.yaml"), temporal: x}}
	r.write(install, keys...)
	return r
}

// aKey is a key of a file. Nothing listens at its provider.
func aKey(name string, lines ...string) string {
	text := fmt.Sprintf("  - name: %s\n    provider: openai\n    account: proj_1\n    stores: [{store: local, path: %s}]\n", name, name)
	for _, l := range lines {
		text += "    " + l + "\n"
	}
	return text
}

func (r *scheduleFixture) write(install string, keys ...string) {
	r.Helper()
	text := "install: " + install + "\nproviders:\n  openai: {type: openai, endpoint: 'http://127.0.0.1:1/v1'}\nstores:\n  local: {type: local, dir: secrets, identity: id.txt}\n"
	if len(keys) > 0 {
		text += "keys:\n" + strings.Join(keys, "")
	}
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}

// steps are the actions of a plan by key.
func (r *scheduleFixture) steps() map[string]string {
	r.Helper()
	out := r.must(exitOK, "{", "", "plan", "--offline", "--json")
	var p struct {
		Keys []struct{ Key, Action string }
	}
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		r.Fatal(err)
	}
	steps := map[string]string{}
	for _, k := range p.Keys {
		steps[k.Key] = k.Action
	}
	return steps
}

func (r *scheduleFixture) expect(want map[string]string) {
	r.Helper()
	if got := r.steps(); fmt.Sprint(got) != fmt.Sprint(want) {
		r.Errorf("the plan is %v, want %v", got, want)
	}
}

func (r *scheduleFixture) describe(key string) *client.ScheduleDescription {
	r.Helper()
	return scheduleOf(r, r.Temporal, key)
}

// scheduleOf is the schedule of a key.
func scheduleOf(t testing.TB, x *testenv.Temporal, key string) *client.ScheduleDescription {
	t.Helper()
	d, err := x.Client.ScheduleClient().GetHandle(t.Context(), workflows.ScheduleID(key)).Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheSchedulesFollowTheirFileStepByStep(t *testing.T) {
	t.Parallel()
	r := newScheduleFixture(t, "life01", aKey("life-a"), aKey("life-b", "paused: true"), aKey("life-c"))
	r.must(exitRefused, "3 schedule(s) are not as", "", "plan", "--offline", "--check")
	r.expect(map[string]string{"life-a": "create", "life-b": "create", "life-c": "create"})
	r.must(exitRefused, "nothing was changed", "no\n", "apply", "--offline")
	r.must(exitRefused, "nothing was changed", "", "apply", "--offline")
	r.must(exitBadInput, "--json cannot ask", "", "apply", "--json")
	r.expect(map[string]string{"life-a": "create", "life-b": "create", "life-c": "create"})
	r.must(exitOK, "Applied: 3 created, 0 changed.", "yes\n", "apply", "--offline")
	again := r.must(exitOK, "Plan: nothing to change; 3 unchanged.", "", "apply", "--offline")
	if strings.Contains(again, "Applied") {
		t.Errorf("a second apply has changed something:\n%s", again)
	}
	r.must(exitOK, "nothing to change", "", "plan", "--offline", "--check")
	if s := r.describe("life-b").Schedule.State; !s.Paused || s.Note != "rekey.yaml: paused" {
		t.Errorf("%+v", s)
	}

	r.write("life01", aKey("life-a", "paused: true"), aKey("life-b"), aKey("life-d", "policy: {window: {days: [mon], from: '22:00', to: '23:00', zone: Europe/Berlin}}"))
	r.expect(map[string]string{"life-a": "pause", "life-b": "unpause", "life-c": "delete", "life-d": "create"})
	r.must(exitOK, "Applied: 1 created, 2 changed.", "", "apply", "--offline", "--yes")
	r.expect(map[string]string{"life-a": "unchanged", "life-b": "unchanged", "life-c": "delete", "life-d": "unchanged"})
	r.must(exitRefused, "1 schedule(s) are not as", "", "plan", "--offline", "--check")
	if !r.describe("life-a").Schedule.State.Paused || r.describe("life-b").Schedule.State.Paused {
		t.Error("the wrong one is paused")
	}

	r.write("life01", aKey("life-a", "paused: true", "policy: {grace: 1d}"), aKey("life-b"), aKey("life-d", "policy: {window: {days: [tue], from: '22:00', to: '23:00', zone: Europe/Berlin}}"))
	out := r.must(exitOK, "2 to change", "", "plan", "--offline")
	for _, want := range []string{"key.policy.grace: 2d → 1d", "key.policy.window.days[0]: mon → tue", "beats: mon 22:", "→ tue 22:"} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "by hand") {
		t.Errorf("the plan blames a person for a change of the file:\n%s", out)
	}
	r.must(exitOK, "Applied: 0 created, 2 changed.", "", "apply", "--offline", "--yes")
	if !r.describe("life-a").Schedule.State.Paused {
		t.Error("a change has unpaused the schedule")
	}

	r.must(exitRefused, "nothing was changed", "no\n", "prune")
	r.must(exitOK, "Deleted: 1.", "yes\n", "prune")
	r.must(exitOK, "Deleted: 0.", "", "prune", "--yes")
	r.expect(map[string]string{"life-a": "unchanged", "life-b": "unchanged", "life-d": "unchanged"})
}

func TestAnInvalidFileChangesNothing(t *testing.T) {
	t.Parallel()
	r := newScheduleFixture(t, "bad001", aKey("bad-a"))
	r.must(exitOK, "1 created", "", "apply", "--offline", "--yes")
	before := r.describe("bad-a")
	r.write("bad001", aKey("bad-a", "policy: {grace: 1d}"), aKey("bad-b", "conflicts_with: [nobody]"))
	for _, command := range [][]string{{"plan"}, {"apply", "--yes"}, {"prune", "--yes"}} {
		r.must(exitBadInput, `keys[1].conflicts_with[0]: there is no key "nobody"`, "", command...)
	}
	r.must(exitBadInput, `keys[1].conflicts_with[0]: there is no key \"nobody\"`, "", "apply", "--yes", "--json")
	r.must(exitBadInput, "rekey.yaml:16:22: ", "", "apply", "--yes")
	if after := r.describe("bad-a"); !after.Info.LastUpdateAt.Equal(before.Info.LastUpdateAt) {
		t.Error("the schedule was changed")
	}
	r.write("bad001", aKey("bad-a"))
	r.must(exitBadInput, `has no key "bad-b"`, "", "apply", "bad-b", "--yes")
}

func TestWhatAPersonDoesInTheUIIsSeen(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := newScheduleFixture(t, "hand01", aKey("hand-a"), aKey("hand-b"))
	r.must(exitOK, "2 created", "", "apply", "--offline", "--yes")

	a := r.Client.ScheduleClient().GetHandle(ctx, workflows.ScheduleID("hand-a"))
	if err := a.Pause(ctx, client.SchedulePauseOptions{Note: "incident 4711"}); err != nil {
		t.Fatal(err)
	}
	b := r.Client.ScheduleClient().GetHandle(ctx, workflows.ScheduleID("hand-b"))
	if err := b.Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		s := in.Description.Schedule
		s.Policy.CatchupWindow = time.Minute
		s.Spec.Calendars[0].Hour = []client.ScheduleRange{{Start: 1}}
		return &client.ScheduleUpdate{Schedule: &s}, nil
	}}); err != nil {
		t.Fatal(err)
	}

	out := r.must(exitOK, `paused by hand ("incident 4711") and stays so`, "", "plan", "--offline")
	for _, want := range []string{"somebody has changed the schedule by hand", "policies.catchupWindow: 60s → 691200s", "beats: 01:"} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan does not say %q:\n%s", want, out)
		}
	}
	r.must(exitOK, "Applied: 0 created, 1 changed.", "", "apply", "--offline", "--yes")
	r.expect(map[string]string{"hand-a": "unchanged", "hand-b": "unchanged"})
	// A change of the file reaches a schedule that a person has paused, and does not wake it.
	r.write("hand01", aKey("hand-a", "policy: {grace: 1d}"), aKey("hand-b"))
	r.must(exitOK, "Applied: 0 created, 1 changed.", "", "apply", "--offline", "--yes")
	if s := r.describe("hand-a").Schedule.State; !s.Paused || s.Note != "incident 4711" {
		t.Errorf("the person's pause has become %+v", s)
	}
	if err := a.Unpause(ctx, client.ScheduleUnpauseOptions{}); err != nil {
		t.Fatal(err)
	}
	r.expect(map[string]string{"hand-a": "unchanged", "hand-b": "unchanged"})
}

func TestTheSchedulesOfOthersAreNeverTouched(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	theirs := newScheduleFixture(t, "other2", aKey("shared"), aKey("only-theirs"))
	theirs.must(exitOK, "2 created", "", "apply", "--offline", "--yes")
	_, err := theirs.Client.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID:     workflows.ScheduleID("nobodys"),
		Action: &client.ScheduleWorkflowAction{ID: "x", Workflow: "Backup", TaskQueue: "backup"}, Paused: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	before := []time.Time{theirs.describe("shared").Info.LastUpdateAt, theirs.describe("only-theirs").Info.LastUpdateAt}

	r := newInstallation(t, theirs.Temporal, "other1", aKey("shared"), aKey("nobodys"), aKey("only-ours"))
	r.expect(map[string]string{"shared": "blocked", "nobodys": "blocked", "only-ours": "create"})
	r.must(exitFailed, "2 schedule(s) are not ours and were left alone", "", "apply", "--offline", "--yes")
	out := r.must(exitOK, "belongs to rekey installation other2", "", "plan", "--offline")
	if !strings.Contains(out, "was not made by rekey") {
		t.Error(out)
	}
	r.expect(map[string]string{"shared": "blocked", "nobodys": "blocked", "only-ours": "unchanged"})
	r.write("other1")
	r.must(exitOK, "Deleted: 1.", "", "prune", "--yes")
	if after := []time.Time{theirs.describe("shared").Info.LastUpdateAt, theirs.describe("only-theirs").Info.LastUpdateAt}; !slices.EqualFunc(before, after, time.Time.Equal) {
		t.Error("another install's schedules were changed")
	}
	theirs.expect(map[string]string{"shared": "unchanged", "only-theirs": "unchanged"})
	theirs.describe("nobodys")
}

func TestTwoAppliesAtOnceEndInTheSameState(t *testing.T) {
	t.Parallel()
	names := []string{"twin-a", "twin-b", "twin-c", "twin-d", "twin-e", "twin-f"}
	r := newScheduleFixture(t, "twin01")
	for _, lines := range [][]string{nil, {"policy: {grace: 1d}"}, {"paused: true"}, {"policy: {grace: 3d}"}} {
		var keys []string
		for _, n := range names {
			keys = append(keys, aKey(n, lines...))
		}
		r.write("twin01", keys...)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if code, out, errOut := r.run(t.Context(), "", "apply", "--offline", "--yes"); code != exitOK {
					t.Errorf("exit code %d: %s%s", code, out, errOut)
				}
			})
		}
		all.Wait()
		for name, action := range r.steps() {
			if action != "unchanged" {
				t.Errorf("%v: %s: %s", lines, name, action)
			}
		}
	}
	r.write("twin01")
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if code, out, errOut := r.run(t.Context(), "", "prune", "--yes"); code != exitOK {
				t.Errorf("exit code %d: %s%s", code, out, errOut)
			}
		})
	}
	all.Wait()
}

func TestAnApplyThatWasCutOffIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	names := map[string]string{}
	var keys []string
	for i := range 40 {
		name := fmt.Sprintf("cut-%d", i)
		names[name] = "unchanged"
		keys = append(keys, aKey(name))
	}
	r := newScheduleFixture(t, "cutoff", keys...)
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	var wants []schedules.Desired
	for _, k := range cfg.Keys {
		wants = append(wants, schedules.Desired{Key: k})
	}
	p, err := schedules.NewPlan(cfg.Install, wants, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancel(t.Context())
	f := &schedules.Client{Temporal: r.Client, Namespace: r.Namespace, Install: cfg.Install, Progress: func(done, _ int) {
		if done == 5 {
			cut()
		}
	}}
	if err := f.Apply(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("an apply that was cut off says %v", err)
	}
	// Several are under way at once, so which ones are done is chance.
	count := map[string]int{}
	for _, step := range r.steps() {
		count[step]++
	}
	if count["unchanged"] < 5 || count["create"] == 0 || count["unchanged"]+count["create"] != len(names) {
		t.Errorf("it was not cut off half-way: %v", count)
	}
	r.must(exitOK, "Applied: ", "", "apply", "--offline", "--yes")
	r.expect(names)
}

// Temporal counts beats with code of its own; what the plan shows and what the tests of package rotation expect must be
// the same, also where the clocks change.
func TestTemporalBeatsWhenTheWindowSays(t *testing.T) {
	t.Parallel()
	windows := map[string]string{
		"beat-any":      "{}",
		"beat-night":    "{window: {days: [fri, sat], from: '22:00', to: '06:00', zone: Europe/Berlin}}",
		"beat-dst":      "{window: {from: '02:00', to: '03:00', zone: Europe/Berlin}}",
		"beat-york":     "{window: {from: '01:00', to: '02:00', zone: America/New_York}}",
		"beat-blackout": "{window: {from: '23:00', to: '01:00', zone: Asia/Tokyo}, blackout: [2026-10-30, 2026-12-24 to 2027-01-02]}",
		"beat-kolkata":  "{window: {days: [sun], from: '00:00', to: '24:00', zone: Asia/Kolkata}}",
	}
	var keys []string
	for name, policy := range windows {
		keys = append(keys, aKey(name, "policy: "+policy))
	}
	r := newScheduleFixture(t, "beat01", keys...)
	r.must(exitOK, "6 created", "", "apply", "--offline", "--yes")
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range cfg.Keys {
		beat := k.Policy.Window.Beat(cfg.Install, k.Name)
		for _, from := range []time.Time{
			time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 10, 0, 0, 0, 0, time.UTC), time.Date(2026, 12, 20, 0, 0, 0, 0, time.UTC),
		} {
			to := from.AddDate(0, 0, 40)
			res, err := r.Client.WorkflowService().ListScheduleMatchingTimes(t.Context(), &workflowservice.ListScheduleMatchingTimesRequest{
				Namespace: r.Namespace, ScheduleId: workflows.ScheduleID(k.Name), StartTime: timestamppb.New(from), EndTime: timestamppb.New(to),
			})
			if err != nil {
				t.Fatal(err)
			}
			want := slices.DeleteFunc(beat.Next(from, 100), func(b time.Time) bool { return b.After(to) })
			if len(want) < 5 || len(want) != len(res.GetStartTime()) {
				t.Errorf("%s from %s: Temporal beats %d times, we say %d", k.Name, from, len(res.GetStartTime()), len(want))
				continue
			}
			for i, b := range res.GetStartTime() {
				if !b.AsTime().Equal(want[i]) {
					t.Errorf("%s: beat %d is %s in Temporal, we say %s", k.Name, i, b.AsTime(), want[i])
				}
				if !k.Policy.Window.Contains(b.AsTime()) {
					t.Errorf("%s: beat %s lies outside the window", k.Name, b.AsTime())
				}
			}
		}
	}
}

func TestAThousandKeysArePlanned(t *testing.T) {
	t.Parallel()
	var keys []string
	for i := range 1000 {
		keys = append(keys, aKey(fmt.Sprintf("many-%d", i)))
	}
	r := newScheduleFixture(t, "many01", keys...)
	out := r.must(exitOK, "Plan: 1000 to create; 0 unchanged.", "", "plan", "--offline")
	if n := strings.Count(out, "next beat"); n != 1000 {
		t.Errorf("%d keys have a next beat", n)
	}
}
