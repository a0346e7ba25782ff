package activities_test

import (
	"context"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
)

func TestAValueIsProvenFromEveryStoreAndNotOnlyFromOne(t *testing.T) {
	for sentence, c := range map[string]struct {
		// spoil changes what the i-th store has of the value.
		spoil func(r *fixture, n *activities.Ref, i int)
		why   string
	}{
		"a store never got it": {func(_ *fixture, n *activities.Ref, i int) { n.Numbers[i] = "" }, "The value is not in"},
		"a store lost it": {func(r *fixture, n *activities.Ref, i int) {
			l := r.key.Stores[i]
			if err := r.acts.Stores[l.Store].Destroy(context.Background(), l.Path, n.Numbers[i]); err != nil {
				r.Fatal(err)
			}
		}, "is gone"},
		"a store has another value under its number": {func(r *fixture, n *activities.Ref, i int) {
			n.Numbers[i] = r.record(i).Current.Number
		}, "holds another value"},
	} {
		for i, store := range []string{"the first", "the second"} {
			t.Run(sentence+", "+store, func(t *testing.T) {
				r := newFixture(t, google(scenario.Alias, scenario.Latest))
				n := r.store(r1, r.create(r1))
				if out := r.verify(r1, n); !out.OK {
					t.Fatalf("before: %+v", out)
				}
				c.spoil(r, &n, i)
				if out := r.verify(r1, n); out.OK || !out.Final || !strings.Contains(out.Why, c.why) || !strings.Contains(out.Why, r.key.Stores[i].String()) {
					t.Errorf("%+v", out)
				}
			})
		}
	}
}

// The provider's front ends learn of a new key one after another.
func TestAKeyThatOneOfSeveralFrontEndsRefusesIsNotProven(t *testing.T) {
	for sentence, accepted := range map[string]int{
		"the first refuses it": 0, "the second refuses it": 1, "the third refuses it": 2,
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			n := r.create(r1)
			r.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleTokenService, Skip: accepted, Times: 1, Kind: simcloud.Refuse, Code: 400})
			if out := r.verify(r1, n); out.OK || out.Final || !strings.Contains(out.Why, n.Fingerprint) {
				t.Errorf("%+v", out)
			}
			if out := r.verify(r1, n); !out.OK {
				t.Errorf("when all know it: %+v", out)
			}
		})
	}
}

func TestTheNewValueIsMissedInWhicheverStoreSomebodyChanged(t *testing.T) {
	for i, store := range []string{"the first", "the second"} {
		t.Run(store, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			n, old := r.published(r1)
			in := activities.HealthInput{Target: r.target(r1), New: n, Old: old}
			if out, err := r.acts.CheckHealth(context.Background(), in); err != nil || !out.New || !out.Current {
				t.Fatalf("before: %+v, %v", out, err)
			}
			var err error
			if i == 0 {
				err = r.SM.SetAlias("ci", "current", 1)
			} else {
				_, err = r.SM.AddVersion("ci-latest", r.First("ci"))
			}
			if err != nil {
				t.Fatal(err)
			}
			out, err := r.acts.CheckHealth(context.Background(), in)
			if r.note(out, err); err != nil || !out.New || out.Current || !strings.Contains(out.Why, r.key.Stores[i].String()) {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
}
