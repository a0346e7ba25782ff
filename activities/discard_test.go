package activities_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

func TestDiscardUndoesWhateverCreateAndStoreDid(t *testing.T) {
	for sentence, begin := range map[string]func(*fixture){
		"nothing":                  func(*fixture) {},
		"a key in the first store": func(r *fixture) { r.create(r1) },
		"a key in both stores":     func(r *fixture) { r.store(r1, r.create(r1)) },
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			begin(r)
			for range 2 {
				if out := r.discard(r1); out.Published != nil || len(out.FollowUps) > 0 {
					t.Errorf("%+v", out)
				}
				r.keys(r.oldID)
				for i := range r.key.Stores {
					if s := r.record(i); s.Claim != nil || s.Pending != nil || s.Previous != nil {
						t.Errorf("record %d: %+v", i, s.Record)
					}
				}
			}
		})
	}
}

func TestADiscardWhoseAnswersWereLostIsRepeated(t *testing.T) {
	for sentence, cut := range map[string]simcloud.Fault{
		"the delete at the provider": {Service: simcloud.GoogleIAMService, Method: "DeleteServiceAccountKey"},
		"the record":                 {Service: simcloud.SecretManagerService, Method: "UpdateSecret"},
		"the version":                {Service: simcloud.SecretManagerService, Method: "DestroySecretVersion"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			r.create(r1)
			cut.Kind, cut.Times = simcloud.LoseReply, 1
			r.Cloud.Inject(cut)
			_, err := r.tryDiscard(r1)
			_ = r.fails(err, fault.Unavailable, "")
			if out := r.discard(r1); out.Published != nil {
				t.Errorf("%+v", out)
			}
			r.keys(r.oldID)
			if s := r.record(0); s.Pending != nil || s.Claim != nil {
				t.Errorf("the record: %+v", s.Record)
			}
			left, err := r.acts.Stores[scenario.Alias].Versions(context.Background(), "ci")
			if err != nil || !slices.Equal(left, []string{"1"}) {
				t.Errorf("readable versions: %v, %v", left, err)
			}
		})
	}
}

func TestDiscardOfAPromotedValueChangesNothing(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	p, err := r.prepare(r1, rotation.Manual)
	if err != nil {
		t.Fatal(err)
	}
	n := r.store(r1, r.create(r1))
	// It came as far as the first store.
	cut := simcloud.Fault{Service: simcloud.SecretManagerService, Method: "AddSecretVersion", Target: "secrets/ci-latest", Except: "pending", Times: 1, Kind: simcloud.Refuse, Code: 503}
	r.Cloud.Inject(cut)
	if _, err := r.tryPromote(r1, n, p.Old...); err == nil {
		t.Fatal("promote finished")
	}
	before := []string{r.record(0).Revision, r.record(1).Revision}
	if out, err := r.tryDiscard(r1); err != nil || out.Published == nil {
		t.Errorf("%+v, %v", out, err)
	}
	if after := []string{r.record(0).Revision, r.record(1).Revision}; !slices.Equal(before, after) {
		t.Error("Discard changed a record")
	}
	r.keys(r.oldID, n.KeyID)
}

// supplied makes a key by hand and stages it as `rekey supply` does.
func (r *fixture) supplied(id string) (keyID string, n activities.Ref) {
	r.Helper()
	keyID, value := r.OpenAI.CreateKey(scenario.OpenAIProject("gpt"), "by hand")
	number, _, err := r.acts.StageSupplied(context.Background(), r.key, id, value)
	if err != nil {
		r.Fatal(err)
	}
	out, err := r.acts.Adopt(context.Background(), activities.AdoptInput{Target: r.target(id), Version: number})
	if r.note(out, err); err != nil || out.New == nil {
		r.Fatalf("Adopt: %+v, %v", out, err)
	}
	return keyID, *out.New
}

func TestDiscardOfASuppliedKeyLeavesItToThePersonAndSaysSo(t *testing.T) {
	r := newFixture(t, setup{openai: true, stores: []string{scenario.Alias}})
	keyID, n := r.supplied(r1)
	out := r.discard(r1)
	if len(out.FollowUps) != 1 || !strings.Contains(out.FollowUps[0], n.Fingerprint) || !strings.Contains(out.FollowUps[0], "https://") {
		t.Errorf("what is left: %q", out.FollowUps)
	}
	r.keys(r.oldID, keyID)
	if s := r.record(0); s.Pending != nil || s.Claim != nil {
		t.Errorf("the record: %+v", s.Record)
	}
}

func TestASuppliedValueThatCannotBeTheNewKeyIsNotAdopted(t *testing.T) {
	r := newFixture(t, setup{openai: true, stores: []string{scenario.Alias}})
	_, elsewhere := r.OpenAI.CreateKey("proj_other", "of another project")
	for sentence, v := range map[string]secret.Value{
		"the old key":              r.First("gpt"),
		"no key at all":            secret.FromString("hello"),
		"a key of another project": elsewhere,
	} {
		_, _, err := r.acts.StageSupplied(context.Background(), r.key, r1, v)
		r.note(nil, err)
		f := r.fails(err, fault.Rejected, "unusable")
		if f.Advice == "" || strings.Contains(f.Error(), v.Reveal()) {
			t.Errorf("%s: %q", sentence, f.Error())
		}
	}
	if out, err := r.acts.Adopt(context.Background(), activities.AdoptInput{Target: r.target(r1)}); err != nil || out.Unusable == "" || out.New != nil {
		t.Errorf("nothing was supplied: %+v, %v", out, err)
	}
	if out, err := r.acts.Adopt(context.Background(), activities.AdoptInput{Target: r.target(r1), Version: "1"}); err != nil || out.Unusable == "" {
		t.Errorf("the current version: %+v, %v", out, err)
	}
}

func TestWhatTheRotationBeforeLeftPendingIsDiscardedUnlessApplicationsReadIt(t *testing.T) {
	for sentence, c := range map[string]struct {
		follows []string
		promote bool // as far as the first store
		stays   bool
	}{
		"it was staged":                          {follows: []string{r1}},
		"it was staged, by a stranger":           {stays: true},
		"applications read it in one store only": {follows: []string{r1}, promote: true, stays: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			n := r.store(r1, r.create(r1))
			if c.promote {
				r.promotedInTheFirst(n)
			}
			out, err := r.acts.Discard(context.Background(), activities.DiscardInput{Target: r.target(r2), Predecessors: c.follows})
			if r.note(out, err); err != nil {
				t.Fatal(err)
			}
			if r.live(n.KeyID) != c.stays || (r.record(1).Pending != nil) != c.stays {
				t.Errorf("the key is live: %t, pending in the second store: %t, want %t", r.live(n.KeyID), r.record(1).Pending != nil, c.stays)
			}
		})
	}
}

// promotedInTheFirst is a promote that was cut off before the second store.
func (r *fixture) promotedInTheFirst(n activities.Ref) {
	r.Helper()
	p, err := r.prepare(r2, rotation.Manual)
	if err != nil {
		r.Fatal(err)
	}
	r.Cloud.Inject(simcloud.Fault{Service: simcloud.SecretManagerService, Method: "AddSecretVersion", Target: "secrets/ci-latest", Except: "pending", Times: 1, Kind: simcloud.DropBefore})
	if _, err = r.tryPromote(r1, n, p.Old...); err == nil || r.record(0).Current.KeyID != n.KeyID || r.record(1).Current.KeyID == n.KeyID {
		r.Fatalf("the promote was not cut off between the stores: %v", err)
	}
}

func TestTheWayBackFromAPromoteThatWasCutOffLeavesNoTraceOfTheNewKey(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	old := activities.Ref{KeyID: r.oldID, Fingerprint: r.First("ci").Fingerprint(), Numbers: []string{r.record(0).Current.Number, r.record(1).Current.Number}}
	n := r.store(r1, r.create(r1))
	r.promotedInTheFirst(n)
	out, err := r.tryPromote(r1, old, n)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.key.Stores {
		s := r.record(i)
		owed := func(r activities.Ref) bool {
			return slices.ContainsFunc(s.Duties, func(d store.Duty) bool { return d.KeyID == r.KeyID })
		}
		if s.Pending != nil || owed(old) || !owed(n) {
			t.Errorf("store %d: %+v; the old key stays, and the new one is to be revoked", i, s.Record)
		}
	}
	if err := r.revokeKeeping(r1, activities.DeleteKey, out.To, n); err != nil {
		t.Fatal(err)
	}
	r.retire(r1, n)
	r.keys(r.oldID)
}
