package activities_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

func (r *fixture) due(in activities.DueInput) (activities.Dueness, error) {
	in.Key = r.key
	out, err := r.acts.Due(context.Background(), in)
	r.note(out, err)
	return out, err
}

func TestDueKnowsWhatARotationWouldFind(t *testing.T) {
	const period = 90 * 24 * time.Hour
	for sentence, tc := range map[string]struct {
		arrange func(*fixture)
		want    rotation.Work
		rule    string
	}{
		"a fresh key":                     {func(*fixture) {}, rotation.Nothing, "fresh"},
		"a key a second too young":        {func(r *fixture) { r.Advance(period - time.Second) }, rotation.Nothing, "fresh"},
		"an old key":                      {func(r *fixture) { r.Advance(period) }, rotation.Rotate, "age"},
		"what a terminated rotation left": {func(r *fixture) { r.published(r1) }, rotation.Finish, "duties"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			tc.arrange(r)
			before, keys := r.record(0), len(r.Cloud.LiveKeys())
			got, err := r.due(activities.DueInput{})
			if err != nil || got.Verdict.Work != tc.want || got.Verdict.Rule != tc.rule {
				t.Errorf("%+v, %v", got, err)
			}
			if len(got.Old) != 1 || got.Old[0].KeyID != r.oldID {
				t.Errorf("it would revoke %+v, not the old key %s", got.Old, r.oldID)
			}
			if after := r.record(0); after.Revision != before.Revision || len(r.Cloud.LiveKeys()) != keys {
				t.Error("asking has changed something")
			}
		})
	}
}

func TestDueSaysThatAnAgeIsUnknownAndThatAnAccountIsFull(t *testing.T) {
	t.Run("age", func(t *testing.T) {
		r := newFixture(t, setup{openai: true, stores: []string{scenario.Latest}})
		got, err := r.due(activities.DueInput{})
		if err != nil || got.Verdict.Rule != "age-unknown" || !got.SupplyByHand || !got.RevokeByHand {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("account", func(t *testing.T) {
		r := newFixture(t, google(scenario.Alias))
		for range 9 {
			if _, _, err := r.IAM.CreateForeignKey(r.key.Account); err != nil {
				t.Fatal(err)
			}
		}
		got, err := r.due(activities.DueInput{})
		if err != nil || got.Verdict.Work != rotation.Nothing || !strings.Contains(got.Full, "The account holds 10 keys") {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestABeatOutsideTheWindowIsAnsweredWithoutAskingAnybody(t *testing.T) {
	at := func(r *fixture, offset, length time.Duration) rotation.Window {
		h, m, _ := r.begin.Add(offset).Clock()
		from := rotation.Clock(h*60 + m)
		return rotation.Window{From: from, To: (from + rotation.Clock(length/time.Minute)) % (24 * 60)}
	}
	for sentence, tc := range map[string]struct {
		offset, length, late time.Duration
		beat, anyTime        bool
		closed               bool
	}{
		"in the window":                           {offset: -time.Hour, length: 2 * time.Hour, beat: true},
		"in the window, and days late":            {offset: -time.Hour, length: 2 * time.Hour, beat: true, late: 72 * time.Hour},
		"in the window, and nobody knows when":    {offset: -time.Hour, length: 2 * time.Hour},
		"after the window, because it came late":  {offset: -3 * time.Hour, length: time.Hour, beat: true, late: 150 * time.Minute, closed: true},
		"a moment after the window":               {offset: -70 * time.Minute, length: time.Hour, beat: true, late: 14 * time.Minute},
		"more than a moment after the window":     {offset: -70 * time.Minute, length: time.Hour, beat: true, late: 16 * time.Minute, closed: true},
		"before the window":                       {offset: time.Hour, length: time.Hour, beat: true, closed: true},
		"before the window, but somebody asks":    {offset: time.Hour, length: time.Hour, anyTime: true},
		"after the window, and nobody knows when": {offset: -70 * time.Minute, length: time.Hour, closed: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			r.key.Policy.Window = at(r, tc.offset, tc.length)
			in := activities.DueInput{AnyTime: tc.anyTime}
			if tc.beat {
				in.Beat = r.begin.Add(-tc.late)
			}
			before := len(r.Cloud.Journal())
			got, err := r.due(in)
			if err != nil || got.Closed != tc.closed {
				t.Errorf("window %s, now %s: %+v, %v", r.key.Policy.Window, r.begin, got, err)
			}
			if asked := len(r.Cloud.Journal()) > before; asked == tc.closed {
				t.Errorf("asked the cloud: %v", asked)
			}
		})
	}
	t.Run("in a zone that nobody knows", func(t *testing.T) {
		r := newFixture(t, google(scenario.Alias))
		r.key.Policy.Window.Zone = "Europe/Bonn"
		_, err := r.due(activities.DueInput{})
		_ = r.fails(err, fault.Rejected, "time_zone")
	})
}

// running answers as Temporal would.
type running struct {
	activities.Rotations
	since map[string]time.Time
}

func (s running) Running(_ context.Context, key string) (time.Time, bool, error) {
	since, ok := s.since[key]
	if ok && since.IsZero() {
		return since, false, errors.New("connection refused")
	}
	return since, ok, nil
}

func TestOfTwoRotationsThatKeepApartOneGoesOn(t *testing.T) {
	early := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	late := early.Add(time.Millisecond)
	for sentence, tc := range map[string]struct {
		running map[string]time.Time
		want    string
	}{
		"nobody else is under way":          {map[string]time.Time{"ci": early}, ""},
		"another began later":               {map[string]time.Time{"ci": early, "cd": late}, ""},
		"another began earlier":             {map[string]time.Time{"ci": late, "cd": early}, "cd"},
		"both began at once: by name":       {map[string]time.Time{"ci": early, "cd": early}, "cd"},
		"both began at once: also by name":  {map[string]time.Time{"ci": early, "web": early}, ""},
		"one of two others began earlier":   {map[string]time.Time{"ci": late, "cd": late.Add(1), "web": early}, "web"},
		"somebody else who does not matter": {map[string]time.Time{"ci": late, "db": early}, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			r.key.ConflictsWith, r.acts.Rotations = []string{"cd", "web"}, running{since: tc.running}
			got, err := r.acts.Conflict(context.Background(), r.target(r1))
			if r.note(got, err); err != nil || got != tc.want {
				t.Errorf("got %q, %v", got, err)
			}
			// The other one decides the other way round, so that one of the two always goes on.
			if _, both := tc.running["cd"]; both && got != "web" {
				r.acts.Allow = func(rotation.Key) error { return nil }
				theirs, err := r.acts.Conflict(context.Background(), activities.Target{Key: rotation.Key{Name: "cd", ConflictsWith: []string{"ci"}}})
				if err != nil || (theirs == "ci") == (got == "cd") {
					t.Errorf("ci gives way to %q, cd to %q", got, theirs)
				}
			}
		})
	}
	t.Run("Temporal does not answer", func(t *testing.T) {
		r := newFixture(t, google(scenario.Alias))
		r.key.ConflictsWith, r.acts.Rotations = []string{"cd"}, running{since: map[string]time.Time{"ci": early, "cd": {}}}
		_, err := r.acts.Conflict(context.Background(), r.target(r1))
		_ = r.fails(err, fault.Unavailable, "temporal")
	})
}

func TestARotationThatWasResetGoesBackToWhatApplicationsReadLast(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.write(0, func(s *store.Snapshot) {
		s.Duties = []store.Duty{{KeyID: "older", Fingerprint: "0123456789ab", Rotation: r3, Since: r.Now().Add(-time.Hour)}}
	})
	r.published(r1)
	p, err := r.prepare(r1, rotation.Manual)
	if err != nil || len(p.Old) != 2 || p.Old[0].KeyID != r.oldID {
		t.Errorf("it would go back to %+v, want %s (%v)", p.Old, r.oldID, err)
	}
}
