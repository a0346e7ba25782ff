package schedules

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	schedulepb "go.temporal.io/api/schedule/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

const install = "abc123"

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func key(name string) rotation.Key {
	return rotation.Key{
		Name: name, Provider: "google", Account: name + "@acme.iam.gserviceaccount.com", Tier: rotation.Production,
		Stores: []rotation.Location{{Store: "gsm", Path: name}}, Policy: rotation.Preset(rotation.Production),
	}
}

// wanted is a schedule as apply writes it.
func wanted(t *testing.T, k rotation.Key) *schedulepb.Schedule {
	t.Helper()
	s, err := schedule(install, k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// actual is a schedule as it is read back after somebody has changed it.
func actual(t *testing.T, k rotation.Key, change func(*schedulepb.Schedule)) Actual {
	t.Helper()
	s := proto.CloneOf(wanted(t, k))
	if change != nil {
		change(s)
	}
	return Actual{
		Key: k.Name, Install: owner(nil, s), Settings: settings(s), Paused: s.State.Paused, Note: s.State.Notes,
		Next: []time.Time{now.Add(time.Hour)},
	}
}

func TestThePlanSaysWhatDiffersAndNothingElse(t *testing.T) {
	k := key("ci")
	paused := func(note string) func(*schedulepb.Schedule) {
		return func(s *schedulepb.Schedule) { s.State.Paused, s.State.Notes = true, note }
	}
	for sentence, tc := range map[string]struct {
		desired Desired
		actual  *Actual
		action  Action
		changes []string
		notes   []string
		paused  bool
	}{
		"a key without a schedule gets one":    {Desired{Key: k}, nil, Create, nil, nil, false},
		"one that is to be paused, too":        {Desired{k, true}, nil, Create, nil, nil, true},
		"a schedule as it should be is left":   {Desired{Key: k}, ptr(actual(t, k, nil)), Unchanged, nil, nil, false},
		"a new grace period is written":        {Desired{Key: k}, ptr(actual(t, with(k, func(k *rotation.Key) { k.Policy.Grace = 0 }), nil)), Update, []string{"key.policy.grace: 0s -> 2d"}, nil, false},
		"a key that moves gets another window": {Desired{Key: with(k, func(k *rotation.Key) { k.Policy.Window.Zone = "Europe/Berlin" })}, ptr(actual(t, k, nil)), Update, []string{"key.policy.window.zone:  -> Europe/Berlin", "zone: UTC -> Europe/Berlin"}, nil, false},
		"a beat moved by hand is put back": {
			Desired{Key: k}, ptr(actual(t, k, func(s *schedulepb.Schedule) { s.Spec.StructuredCalendar[0].Hour = span(12, 12) })),
			Update, []string{"beats: 12:04:13 -> 02:04:13"}, []string{"somebody has changed the schedule by hand"}, false,
		},
		"a catch-up window shortened by hand is put back": {
			Desired{Key: k}, ptr(actual(t, k, func(s *schedulepb.Schedule) { s.Policies.CatchupWindow = durationpb.New(time.Minute) })),
			Update, []string{"policies.catchupWindow: 60s -> 691200s"}, []string{"by hand"}, false,
		},
		"pause-on-failure is taken away": {
			Desired{Key: k}, ptr(actual(t, k, func(s *schedulepb.Schedule) { s.Policies.PauseOnFailure = true })),
			Update, []string{"policies.pauseOnFailure: true -> "}, []string{"by hand"}, false,
		},
		"another overlap policy is put back": {
			Desired{Key: k}, ptr(actual(t, k, func(s *schedulepb.Schedule) { s.Policies.OverlapPolicy = enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL })),
			Update, []string{"policies.overlapPolicy: SCHEDULE_OVERLAP_POLICY_ALLOW_ALL -> SCHEDULE_OVERLAP_POLICY_SKIP"}, []string{"by hand"}, false,
		},
		"a limit of actions is taken away": {
			Desired{Key: k}, ptr(actual(t, k, func(s *schedulepb.Schedule) { s.State.LimitedActions = true })),
			Update, []string{"state.limitedActions: true -> "}, []string{"by hand"}, false,
		},
		"another task queue is put back": {
			Desired{Key: k}, ptr(actual(t, k, func(s *schedulepb.Schedule) { s.Action.GetStartWorkflow().TaskQueue.Name = "mine" })),
			Update, []string{"action.startWorkflow.taskQueue.name: mine -> rekey"}, []string{"by hand"}, false,
		},
		"a second beat is taken away": {
			Desired{Key: k}, ptr(actual(t, k, func(s *schedulepb.Schedule) {
				s.Spec.Interval = []*schedulepb.IntervalSpec{{Interval: durationpb.New(time.Hour)}}
			})), Update, []string{"spec.interval[0].interval: 3600s -> "}, []string{"by hand"}, false,
		},
		"a digest of another release is written anew": {
			Desired{Key: k}, ptr(actual(t, k, func(s *schedulepb.Schedule) {
				s.Action.GetStartWorkflow().Memo.Fields[digestMemo] = text("0000")
			})), Update, []string{"memo.rekey-digest: 0000 -> *"}, nil, false,
		},
		"ranges cut in another way are the same": {
			Desired{Key: k}, ptr(actual(t, k, func(s *schedulepb.Schedule) {
				s.Spec.StructuredCalendar[0].DayOfWeek = span(0, 6)
				s.Spec.StructuredCalendar[0].Month = append(span(1, 6), span(7, 12)...)
				s.Spec.StructuredCalendar[0].Hour = []*schedulepb.Range{{Start: s.Spec.StructuredCalendar[0].Hour[0].Start}}
			})), Unchanged, nil, nil, false,
		},
		"paused in the file: pause":               {Desired{k, true}, ptr(actual(t, k, nil)), Pause, []string{"paused: false -> true"}, nil, true},
		"paused in the file, and it is":           {Desired{k, true}, ptr(actual(t, k, paused("rekey.yaml: paused"))), Unchanged, nil, nil, true},
		"no longer paused in the file: unpause":   {Desired{Key: k}, ptr(actual(t, k, paused("rekey.yaml: paused"))), Unpause, []string{"paused: true -> false"}, nil, false},
		"paused by a person: stays so":            {Desired{Key: k}, ptr(actual(t, k, paused("incident 4711"))), Unchanged, nil, []string{`paused by hand ("incident 4711") and stays so`}, true},
		"paused by a person without a word: too":  {Desired{Key: k}, ptr(actual(t, k, paused(""))), Unchanged, nil, []string{"paused by hand"}, true},
		"paused by both: the person's pause wins": {Desired{k, true}, ptr(actual(t, k, paused("incident"))), Unchanged, nil, []string{"paused by hand"}, true},
		"a schedule of another install": {
			Desired{Key: k}, &Actual{Key: "ci", Install: "zzz999", Settings: Settings{"beats": "always"}}, Blocked, nil, []string{"belongs to rekey installation zzz999"}, false,
		},
		"a schedule of nobody": {Desired{Key: k}, &Actual{Key: "ci"}, Blocked, nil, []string{"was not made by rekey"}, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			var there []Actual
			if tc.actual != nil {
				there = append(there, *tc.actual)
			}
			p, err := NewPlan(install, []Desired{tc.desired}, there, now)
			if err != nil || len(p.Keys) != 1 {
				t.Fatalf("%+v, %v", p, err)
			}
			s := p.Keys[0]
			if s.Action != tc.action || s.Paused != tc.paused {
				t.Errorf("%s, paused %v; want %s, %v", s.Action, s.Paused, tc.action, tc.paused)
			}
			var changes []string
			for i, c := range s.Changes {
				line := c.Setting + ": " + c.From + " -> " + c.To
				if i < len(tc.changes) && strings.HasSuffix(tc.changes[i], "*") {
					line = line[:len(tc.changes[i])-1] + "*"
				}
				changes = append(changes, line)
			}
			if diff := cmp.Diff(tc.changes, changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if len(s.Notes) != len(tc.notes) || len(s.Notes) > 0 && !strings.Contains(s.Notes[0], tc.notes[0]) {
				t.Errorf("notes %q, want %q", s.Notes, tc.notes)
			}
			if none := len(s.Beats) == 0; none != (tc.paused || tc.action == Blocked) {
				t.Errorf("beats %v", s.Beats)
			}
		})
	}
}

func ptr(h Actual) *Actual { return &h }

func with(k rotation.Key, change func(*rotation.Key)) rotation.Key {
	change(&k)
	return k
}

func TestOnlyOurOwnSchedulesAreDeleted(t *testing.T) {
	old, foreign := actual(t, key("old"), nil), actual(t, key("theirs"), nil)
	foreign.Install = "zzz999"
	nobody := actual(t, key("nobody"), nil)
	nobody.Install = ""
	p, err := NewPlan(install, []Desired{{Key: key("b")}, {Key: key("a")}}, []Actual{old, foreign, nobody}, now)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range p.Keys {
		got = append(got, s.Key+" "+string(s.Action))
	}
	if want := []string{"b create", "a create", "old delete"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if p.Applies() != 2 || p.Count(Delete) != 1 {
		t.Errorf("%d to apply, %d to delete", p.Applies(), p.Count(Delete))
	}
}

func TestEverySettingThatTemporalHasCounts(t *testing.T) {
	// A setting that a later release of Temporal adds must not be overlooked: whatever differs must show.
	base := wanted(t, key("ci"))
	for sentence, change := range map[string]func(*schedulepb.Schedule){
		"jitter":        func(s *schedulepb.Schedule) { s.Spec.Jitter = durationpb.New(time.Second) },
		"cron":          func(s *schedulepb.Schedule) { s.Spec.CronString = []string{"@daily"} },
		"a blackout":    func(s *schedulepb.Schedule) { s.Spec.ExcludeStructuredCalendar = base.Spec.StructuredCalendar },
		"no beat":       func(s *schedulepb.Schedule) { s.Spec.StructuredCalendar = nil },
		"keep result":   func(s *schedulepb.Schedule) { s.Policies.KeepOriginalWorkflowId = true },
		"another start": func(s *schedulepb.Schedule) { s.Action.GetStartWorkflow().WorkflowType.Name = "RotateKey" },
		"another input": func(s *schedulepb.Schedule) { s.Action.GetStartWorkflow().Input.Payloads = nil },
		"a second input": func(s *schedulepb.Schedule) {
			p := s.Action.GetStartWorkflow().Input
			p.Payloads = append(p.Payloads, text("x"))
		},
		"another title": func(s *schedulepb.Schedule) { s.Action.GetStartWorkflow().UserMetadata.Summary = text("mine") },
		"a header": func(s *schedulepb.Schedule) {
			s.Action.GetStartWorkflow().Header = &commonpb.Header{Fields: map[string]*commonpb.Payload{"a": text("b")}}
		},
		"a timeout": func(s *schedulepb.Schedule) {
			s.Action.GetStartWorkflow().WorkflowRunTimeout = durationpb.New(time.Minute)
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := proto.CloneOf(base)
			change(s)
			if maps.Equal(settings(s), settings(base)) {
				t.Error("it does not show")
			}
			if digest(settings(s)) == digest(settings(base)) {
				t.Error("the digest is the same")
			}
		})
	}
}

func TestABlackoutIsSkippedDayByDay(t *testing.T) {
	d, err := rotation.ParseDates("2026-12-24 to 2027-02-02")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := calendars(blackout(d)), "2026-12-24..31, 2027-01-*, 2027-02-01+02"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	one, _ := rotation.ParseDates("2028-02-29")
	if got := calendars(blackout(one)); got != "2028-02-29" {
		t.Errorf("got %q", got)
	}
}

func TestTheOutlookSaysWhatWouldBeRevokedAndWhen(t *testing.T) {
	k := key("ci")
	due := func(work rotation.Work, at time.Time) *activities.Dueness {
		return &activities.Dueness{Verdict: rotation.Verdict{Work: work, DueAt: at, Message: "because."}, Old: []activities.Ref{{KeyID: "old1"}}}
	}
	beat := time.Date(2026, 11, 24, 2, 4, 13, 0, time.UTC)
	for sentence, tc := range map[string]struct {
		desired         Desired
		due             *activities.Dueness
		rotates, revoke time.Time
		notes           string
	}{
		"a due key at the next beat":       {Desired{Key: k}, due(rotation.Rotate, now.Add(-time.Hour)), beat, beat.Add(48 * time.Hour), ""},
		"a fresh key at the beat after it": {Desired{Key: k}, due(rotation.Nothing, beat.AddDate(0, 0, 9).Add(time.Second)), beat.AddDate(0, 0, 10), beat.AddDate(0, 0, 12), ""},
		"also if it is due at the beat":    {Desired{Key: k}, due(rotation.Nothing, beat.AddDate(0, 0, 9)), beat.AddDate(0, 0, 9), beat.AddDate(0, 0, 11), ""},
		"a key of unknown age never":       {Desired{Key: k}, due(rotation.Nothing, time.Time{}), time.Time{}, time.Time{}, ""},
		"a paused key never":               {Desired{k, true}, due(rotation.Rotate, now), time.Time{}, time.Time{}, ""},
		"nobody knows without a look":      {Desired{Key: k}, nil, time.Time{}, time.Time{}, ""},
		"a person says when it is revoked": {Desired{Key: k}, &activities.Dueness{Verdict: rotation.Verdict{Work: rotation.Rotate}, Old: []activities.Ref{{Fingerprint: "f"}}, RevokeByHand: true}, beat, time.Time{}, ""},
		"a full account is told":           {Desired{Key: k}, &activities.Dueness{Verdict: rotation.Verdict{Work: rotation.Rotate}, Full: "ten keys"}, beat, time.Time{}, "a new key could not be made: ten keys"},
		"an unknown age is told":           {Desired{Key: k}, &activities.Dueness{Verdict: rotation.Verdict{Work: rotation.Nothing, Rule: "age-unknown"}}, time.Time{}, time.Time{}, "no schedule will rotate it before its age is known"},
	} {
		t.Run(sentence, func(t *testing.T) {
			p, err := NewPlan(install, []Desired{tc.desired}, nil, now)
			if err != nil {
				t.Fatal(err)
			}
			o := p.Forecast(p.Keys[0], tc.due, false)
			if !o.RotatesAt.Equal(tc.rotates) || !o.RevokesAt.Equal(tc.revoke) || strings.Join(o.Notes, ";") != tc.notes {
				t.Errorf("rotates %s, revokes %s, notes %q; want %s, %s, %q", o.RotatesAt, o.RevokesAt, o.Notes, tc.rotates, tc.revoke, tc.notes)
			}
			if want := []string{"google:ci@acme.iam.gserviceaccount.com", "gsm:ci"}; !slices.Equal(o.Touches, want) {
				t.Errorf("touches %v", o.Touches)
			}
		})
	}
}
