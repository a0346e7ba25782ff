package activities_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// addStore adds an empty place to the key in rekey.yaml, before or after the one that it has.
func (r *fixture) addStore(name string, first bool) {
	r.Helper()
	ids := []string{"added"}
	if name == scenario.Latest {
		ids = append(ids, "added-rekey-pending")
	}
	for _, id := range ids {
		if err := r.SM.CreateSecret(id, secret.Value{}); err != nil {
			r.Fatal(err)
		}
	}
	has := "      - {store: gsm, path: ci}\n"
	lines := has + "      - {store: " + name + ", path: added}\n"
	if first {
		lines = "      - {store: " + name + ", path: added}\n" + has
	}
	r.acts, r.key = r.open(strings.Replace(r.YAML(), has, lines, 1))
	if len(r.key.Stores) != 2 {
		r.Fatalf("the key has the stores %v", r.key.Stores)
	}
}

func TestAStoreThatWasAddedToAKeyMakesItDueAndGetsTheNewKey(t *testing.T) {
	for sentence, c := range map[string]struct {
		store string
		first bool
	}{
		"after the others": {scenario.Alias, false}, "before the others": {scenario.Alias, true},
		"read as latest": {scenario.Latest, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			if p, err := r.prepare(r1, rotation.Scheduled); err != nil || p.Verdict.Work != rotation.Nothing {
				t.Fatalf("before it was added: %+v, %v", p.Verdict, err)
			}
			r.addStore(c.store, c.first)
			d, err := r.due(activities.DueInput{})
			if err != nil || d.Verdict.Rule != "stores-disagree" || d.Verdict.Work != rotation.Rotate || d.Verdict.DueAt.IsZero() {
				t.Errorf("Due: %+v, %v", d, err)
			}
			p, err := r.prepare(r1, rotation.Scheduled)
			if err != nil || p.Verdict.Rule != "stores-disagree" || !slices.Equal(ids(p.Old), []string{r.oldID}) || p.OldRefused {
				t.Fatalf("Prepare: %+v, %v", p, err)
			}
			if e, err := r.emergency(r1, "0123456789ab"); err != nil || e.Verdict.Work != rotation.Rotate || !slices.Equal(ids(e.Old), []string{r.oldID}) {
				t.Errorf("an emergency that names another value: %+v, %v", e, err)
			}
			n := r.store(r1, r.create(r1))
			out, err := r.tryPromote(r1, n, p.Old...)
			if err != nil || len(out.Lagging) > 0 {
				t.Fatalf("Promote: %+v, %v", out, err)
			}
			for i := range r.key.Stores {
				if c := r.record(i).Current; c == nil || c.KeyID != n.KeyID {
					t.Errorf("store %d: current is %+v", i, c)
				}
			}
			if err := r.revokeKeeping(r1, activities.DeleteKey, out.To, p.Old...); err != nil {
				t.Fatal(err)
			}
			r.retire(r1, p.Old...)
			r.keys(n.KeyID)
			if p, err := r.prepare(r2, rotation.Scheduled); err != nil || p.Verdict.Work != rotation.Nothing {
				t.Errorf("afterwards: %+v, %v", p.Verdict, err)
			}
		})
	}
}

func TestADutyIsNotFinishedWhileAStoreHasNoValueButReplacedTogetherWithTheCurrentKey(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	n, old := r.published(r1) // and terminated
	r.addStore(scenario.Alias, false)
	// Numbers of a key with two stores.
	old[0].Numbers = append(old[0].Numbers, "")
	_ = r.fails(r.revokeKeeping(r1, activities.DeleteKey, n, old...), fault.Rejected, activities.StillStaged)
	for sentence, prepare := range map[string]func() (activities.Prepared, error){
		"the next beat": func() (activities.Prepared, error) { return r.prepare(r2, rotation.Scheduled) },
		"an emergency":  func() (activities.Prepared, error) { return r.emergency(r2, r.oldID) },
	} {
		if p, err := prepare(); err != nil || p.Verdict.Work != rotation.Rotate || !slices.Equal(ids(p.Old), []string{n.KeyID, r.oldID}) {
			t.Errorf("%s: %+v, %v", sentence, p, err)
		}
	}
}

func TestAnEmergencyReplacesEveryCurrentValueAlsoTheOneThatWasNotNamed(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	otherID, other, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.SM.AddVersion("ci-latest", other); err != nil {
		t.Fatal(err)
	}
	// A new value takes the place of both: the other one would be live and forgotten.
	p, err := r.emergency(r1, r.oldID)
	if err != nil || p.Verdict.Work != rotation.Rotate || !slices.Equal(ids(p.Old), []string{r.oldID, otherID}) {
		t.Errorf("old %v, want %s and %s: %v", ids(p.Old), r.oldID, otherID, err)
	}
}
