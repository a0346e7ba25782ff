package activities_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// fill makes keys of others until the account takes no more, and returns their ids.
func (r *fixture) fill() []string {
	r.Helper()
	var foreign []string
	for {
		id, _, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
		if err != nil {
			break
		}
		foreign = append(foreign, id)
	}
	if len(r.Cloud.LiveKeys()) != 10 {
		r.Fatalf("the account holds %d keys", len(r.Cloud.LiveKeys()))
	}
	r.rules.Foreign = foreign
	return foreign
}

// emergency prepares an emergency that names what leaked; no names mean every value.
func (r *fixture) emergency(id string, leaked ...string) (activities.Prepared, error) {
	out, err := r.acts.Prepare(context.Background(), activities.PrepareInput{
		Target: r.target(id), Reason: rotation.Emergency, StartedAt: r.begin, Leaked: leaked,
	})
	r.note(out, err)
	return out, err
}

// ids are the provider's names of keys.
func ids(refs []activities.Ref) []string {
	var all []string
	for _, r := range refs {
		all = append(all, r.KeyID)
	}
	return all
}

func TestAFullAccountStopsNothingThatMintsNothing(t *testing.T) {
	for sentence, c := range map[string]struct {
		prepare func(r *fixture) (activities.Prepared, error)
		work    rotation.Work
	}{
		"the beat after a rotation was terminated": {func(r *fixture) (activities.Prepared, error) { return r.prepare(r2, rotation.Scheduled) }, rotation.Finish},
		"the same rotation, reset in grace":        {func(r *fixture) (activities.Prepared, error) { return r.prepare(r1, rotation.Manual) }, rotation.Rotate},
		"an emergency that only revokes":           {func(r *fixture) (activities.Prepared, error) { return r.emergency(r2, r.oldID) }, rotation.Finish},
		"the beat of a fresh key": {func(r *fixture) (activities.Prepared, error) {
			for i := range r.key.Stores {
				r.write(i, func(s *store.Snapshot) { s.Duties = nil })
			}
			return r.prepare(r2, rotation.Scheduled)
		}, rotation.Nothing},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			r.published(r1)
			r.fill()
			p, err := c.prepare(r)
			if err != nil || p.Verdict.Work != c.work || p.RotateAfter {
				t.Fatalf("%+v, %v", p, err)
			}
			if c.work != rotation.Nothing && !slices.Equal(ids(p.Old), []string{r.oldID}) {
				t.Errorf("old: %+v", p.Old)
			}
		})
	}
	t.Run("a key that was staged before the account became full", func(t *testing.T) {
		r := newFixture(t, google(scenario.Alias))
		n := r.create(r1)
		r.fill()
		if p, err := r.prepare(r1, rotation.Manual); err != nil || p.Verdict.Work != rotation.Rotate || p.RotateAfter {
			t.Fatalf("%+v, %v", p, err)
		}
		if again := r.create(r1); again.KeyID != n.KeyID {
			t.Errorf("%+v, then %+v", n, again)
		}
	})
	t.Run("where a person makes the key", func(t *testing.T) {
		r := newFixture(t, openAI(scenario.Alias))
		if p, err := r.prepare(r1, rotation.Manual); err != nil || p.Verdict.Work != rotation.Rotate {
			t.Fatalf("%+v, %v", p, err)
		}
	})
}

func TestAFullAccountIsMadeRoomInByFirstRevokingWhatEarlierRotationsLeft(t *testing.T) {
	for sentence, prepare := range map[string]func(r *fixture, n activities.Ref) (activities.Prepared, error){
		"asked by a person":                    func(r *fixture, _ activities.Ref) (activities.Prepared, error) { return r.prepare(r2, rotation.Manual) },
		"an emergency":                         func(r *fixture, _ activities.Ref) (activities.Prepared, error) { return r.emergency(r2) },
		"an emergency that names what is read": func(r *fixture, n activities.Ref) (activities.Prepared, error) { return r.emergency(r2, n.KeyID) },
		"an emergency that names both": func(r *fixture, n activities.Ref) (activities.Prepared, error) {
			return r.emergency(r2, n.KeyID, r.oldID)
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			n, _ := r.published(r1)
			foreign := r.fill()
			p, err := prepare(r, n)
			if err != nil {
				t.Fatal(err)
			}
			if p.Verdict.Work != rotation.Finish || p.Verdict.Rule != "no-room" || !p.RotateAfter || !strings.Contains(p.Verdict.Message, r.oldID) {
				t.Errorf("%+v", p)
			}
			if !slices.Equal(ids(p.Old), []string{r.oldID}) || p.New == nil || p.New.KeyID != n.KeyID {
				t.Fatalf("old %v, new %+v: want %s taken away and %s kept", ids(p.Old), p.New, r.oldID, n.KeyID)
			}
			// The first round, and the one that follows.
			if err := r.revokeKeeping(r2, activities.DeleteKey, *p.New, p.Old...); err != nil {
				t.Fatal(err)
			}
			r.retire(r2, p.Old...)
			r.write(0, noClaim)
			p, err = r.prepare(r3, rotation.Manual)
			if err != nil || p.Verdict.Work != rotation.Rotate || p.RotateAfter || !slices.Equal(ids(p.Old), []string{n.KeyID}) {
				t.Fatalf("the next round: %+v, %v", p, err)
			}
			second := r.create(r3)
			r.keys(append(foreign, n.KeyID, second.KeyID)...)
		})
	}
	t.Run("in an emergency also what leaked and nobody reads", func(t *testing.T) {
		r := newFixture(t, google(scenario.Alias))
		r.rules = simcloud.Rules{}
		r.bury() // the first key, which no record names
		r.fill()
		p, err := r.emergency(r1)
		if err != nil || p.Verdict.Rule != "no-room" || !p.RotateAfter || !slices.Equal(ids(p.Old), []string{r.oldID}) {
			t.Errorf("%+v, %v", p, err)
		}
	})
	t.Run("and the plan does not say that there is no room", func(t *testing.T) {
		r := newFixture(t, google(scenario.Alias))
		r.published(r1)
		r.fill()
		if d, err := r.due(activities.DueInput{}); err != nil || d.Full != "" {
			t.Errorf("%+v, %v", d, err)
		}
	})
}

func TestAKeyThatWasJustRevokedTakesUpNoRoomAlthoughTheListShowsIt(t *testing.T) {
	r := newFixture(t, setup{stores: []string{scenario.Alias}, opts: scenario.Options{ListLag: "1h"}})
	r.published(r1)
	r.Advance(r.horizon())
	foreign := r.fill()
	r.Cloud.SetTiming(simcloud.Timing{ListLag: time.Hour})
	p, err := r.prepare(r2, rotation.Manual)
	if err != nil || !p.RotateAfter {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := r.revokeKeeping(r2, activities.DeleteKey, *p.New, p.Old...); err != nil {
		t.Fatal(err)
	}
	r.retire(r2, p.Old...)
	r.write(0, noClaim)
	_, err = r.prepare(r3, rotation.Manual)
	_ = r.fails(err, fault.Rejected, "limit_reached")
	next, err := r.acts.Prepare(context.Background(), activities.PrepareInput{
		Target: r.target(r3), Reason: rotation.Manual, StartedAt: r.begin, Predecessors: []string{r2}, Revoked: ids(p.Old),
	})
	if r.note(next, err); err != nil || next.Verdict.Work != rotation.Rotate {
		t.Fatalf("%+v, %v", next, err)
	}
	n := r.create(r3)
	r.keys(append(foreign, p.New.KeyID, n.KeyID)...)
}

func TestAFullAccountIsLeftToAPersonWhereNothingMakesRoom(t *testing.T) {
	for sentence, c := range map[string]struct {
		arrange func(r *fixture, n activities.Ref)
		names   bool // the advice says what to begin with
	}{
		"nothing is left of earlier rotations": {func(r *fixture, n activities.Ref) {
			for i := range r.key.Stores {
				r.write(i, func(s *store.Snapshot) { s.Duties = nil })
			}
		}, false},
		"what is left does not exist at the provider": {func(r *fixture, n activities.Ref) {
			r.vanishes(r.oldID)
			r.fill()
		}, false},
		"stores disagree": {func(r *fixture, n activities.Ref) {
			if err := r.SM.SetAlias("ci", "current", 1); err != nil {
				r.Fatal(err)
			}
			for i := range r.key.Stores {
				r.write(i, func(s *store.Snapshot) {
					s.Duties = append(s.Duties, store.Duty{KeyID: r.rules.Foreign[0], Fingerprint: "0123456789ab", Rotation: r1})
				})
			}
		}, true},
		"the provider refuses the current key": {func(r *fixture, n activities.Ref) {
			r.rules.MayDie = []string{n.KeyID}
			if err := r.acts.Providers["google"].Disable(context.Background(), scenario.Account("ci"), n.KeyID); err != nil {
				r.Fatal(err)
			}
		}, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			n, _ := r.published(r1)
			r.fill()
			c.arrange(r, n)
			_, err := r.prepare(r2, rotation.Manual)
			f := r.fails(err, fault.Rejected, "limit_reached")
			if strings.Contains(f.Advice, "Begin with") != c.names {
				t.Errorf("%q", f.Advice)
			}
		})
	}
}
