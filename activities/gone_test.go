package activities_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc/codes"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// vanishes deletes a key at the provider behind rekey's back.
func (r *fixture) vanishes(id string) {
	r.Helper()
	if err := r.acts.Providers["google"].Delete(context.Background(), scenario.Account("ci"), id); err != nil {
		r.Fatal(err)
	}
}

// atIAM is a refusal of the next request to a method of Google's IAM.
func atIAM(method string, code int) simcloud.Fault {
	return simcloud.Fault{Service: simcloud.GoogleIAMService, Method: method, Times: 1, Kind: simcloud.Refuse, Code: code}
}

func TestAKeyThatIsGoneIsRevoked(t *testing.T) {
	for _, mode := range []activities.RevokeMode{activities.DisableKey, activities.EnableKey, activities.DeleteKey} {
		t.Run(string(mode), func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			n, old := r.published(r1)
			r.vanishes(r.oldID)
			out, err := r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: old, Keep: n, Mode: mode})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(out.Gone, []string{r.oldID}) {
				t.Errorf("gone: %v, want %s", out.Gone, r.oldID)
			}
		})
	}
}

func TestWhatLeakedAndVanishedIsContained(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.rules.MayDie = []string{r.oldID}
	p, err := r.prepare(r1, rotation.Emergency)
	if err != nil || len(p.Old) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	r.vanishes(r.oldID)
	out, err := r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: p.Old, Mode: activities.DisableKey, Contain: true})
	if err != nil || !slices.Equal(out.Gone, []string{r.oldID}) {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestOfSeveralKeysTheOnesThatAreThereAreRevokedAlthoughAnotherIsGone(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	first, _ := r.published(r1)
	r.write(0, noClaim)
	n, old := r.published(r2)
	if len(old) != 2 {
		t.Fatalf("old: %+v", old)
	}
	r.vanishes(first.KeyID)
	out, err := r.tryRevoke(activities.RevokeInput{Target: r.target(r2), Keys: old, Keep: n, Mode: activities.DisableKey})
	if err != nil || !slices.Equal(out.Gone, []string{first.KeyID}) {
		t.Fatalf("%+v, %v", out, err)
	}
	for _, e := range r.Cloud.Journal() {
		if e.Kind == simcloud.KeyDisabled && e.KeyID == r.oldID {
			return
		}
	}
	t.Error("the key that is there was not disabled")
}

func TestAKeyThatTheProviderHasDisabledByItselfCanBeDisabledAndDeleted(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	n, old := r.published(r1)
	// Google does that to a key that it finds in public.
	if err := r.acts.Providers["google"].Disable(context.Background(), scenario.Account("ci"), r.oldID); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []activities.RevokeMode{activities.DisableKey, activities.DeleteKey} {
		out, err := r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: old, Keep: n, Mode: mode})
		if err != nil || len(out.Gone) > 0 {
			t.Errorf("%s: %+v, %v", mode, out, err)
		}
	}
	r.keys(n.KeyID)
}

func TestARefusalThatTheListExplainsIsNoFailure(t *testing.T) {
	for sentence, c := range map[string]struct {
		code  int
		class fault.Class
	}{
		"a precondition without details": {412, fault.Rejected},
		"an invalid argument":            {400, fault.Rejected},
		"a missing permission":           {403, fault.AccessDenied},
	} {
		for _, mode := range []activities.RevokeMode{activities.DisableKey, activities.DeleteKey} {
			method := map[activities.RevokeMode]string{activities.DisableKey: "DisableServiceAccountKey", activities.DeleteKey: "DeleteServiceAccountKey"}[mode]
			t.Run(sentence+" at "+string(mode), func(t *testing.T) {
				r := newFixture(t, google(scenario.Alias))
				n, old := r.published(r1)
				in := activities.RevokeInput{Target: r.target(r1), Keys: old, Keep: n, Mode: mode}
				r.Cloud.Inject(atIAM(method, c.code))
				_, err := r.tryRevoke(in)
				_ = r.fails(err, c.class, "") // the key is there
				r.vanishes(r.oldID)
				r.Cloud.Inject(atIAM(method, c.code))
				if out, err := r.tryRevoke(in); err != nil || !slices.Equal(out.Gone, []string{r.oldID}) {
					t.Errorf("%+v, %v", out, err)
				}
				r.Cloud.Inject(atIAM(method, c.code))
				r.Cloud.Inject(atIAM("ListServiceAccountKeys", 403))
				_, err = r.tryRevoke(in)
				_ = r.fails(err, c.class, "") // nobody can know
			})
		}
	}
}

func TestAnAbsenceThatTheListMayNotShowYetProvesNothing(t *testing.T) {
	r := newFixture(t, setup{stores: []string{scenario.Alias}, opts: scenario.Options{ListLag: "1h"}})
	n := r.create(r1)
	r.vanishes(n.KeyID)
	r.Cloud.Inject(atIAM("DeleteServiceAccountKey", 403))
	_, err := r.tryDiscard(r1)
	_ = r.fails(err, fault.AccessDenied, "")
	r.Advance(time.Hour)
	r.Cloud.Inject(atIAM("DeleteServiceAccountKey", 403))
	if _, err := r.tryDiscard(r1); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestLeftoversThatAreGoneDoNotStandInTheWayOfANewKey(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	left := r.create(r1)
	r.vanishes(left.KeyID)
	r.Cloud.Inject(atIAM("DeleteServiceAccountKey", 412))
	n := r.create(r2)
	r.keys(r.oldID, n.KeyID)
}

// youth is a provider that shows a new key an hour late, by its id and in lists.
func youth(mode string) setup {
	return setup{stores: []string{scenario.Alias}, opts: scenario.Options{Mode: mode, ListLag: "1h"}}
}

func TestAKeyThatIsNotVisibleYetIsNotTakenForGone(t *testing.T) {
	for _, mode := range []string{"upload", "create"} {
		t.Run(mode, func(t *testing.T) {
			r := newFixture(t, youth(mode))
			r.Cloud.SetTiming(simcloud.Timing{VisibleLag: time.Hour, ListLag: time.Hour})
			n := r.create(r1)
			_, err := r.tryDiscard(r1)
			if f := r.fails(err, fault.Unavailable, "not_visible_yet"); f.RetryAfter <= 0 || f.RetryAfter > time.Hour {
				t.Errorf("ask again after %v", f.RetryAfter)
			}
			if p := r.record(0).Pending; p == nil || p.KeyID != n.KeyID {
				t.Errorf("nothing names the key any more: %+v", p)
			}
			r.keys(r.oldID, n.KeyID)
			r.Advance(time.Hour)
			r.discard(r1)
			r.keys(r.oldID)
		})
	}
}

// answersOfGoogle are the ways in which Google says that a key is gone.
var answersOfGoogle = map[string]codes.Code{
	"NOT_FOUND": codes.NotFound, "FAILED_PRECONDITION": codes.FailedPrecondition, "PERMISSION_DENIED": codes.PermissionDenied,
}

func TestALeftoverThatIsNotVisibleYetIsNotTakenForGone(t *testing.T) {
	for _, mode := range []string{"upload", "create"} {
		t.Run(mode, func(t *testing.T) {
			r := newFixture(t, youth(mode))
			r.Cloud.SetTiming(simcloud.Timing{VisibleLag: time.Hour, ListLag: time.Hour})
			left := r.create(r1)
			// That rotation is terminated, and another one begins at once, twice.
			for range 2 {
				_, err := r.tryCreate(r2)
				if f := r.fails(err, fault.Unavailable, "not_visible_yet"); f.RetryAfter <= 0 || f.RetryAfter > time.Hour {
					t.Errorf("ask again after %v", f.RetryAfter)
				}
				if p := r.record(0).Pending; p == nil || p.KeyID != left.KeyID {
					t.Errorf("nothing names the key any more: %+v", p)
				}
			}
			r.Advance(time.Hour)
			n := r.create(r2)
			r.keys(r.oldID, n.KeyID)
		})
	}
}

func TestARotationEndsInWhateverWayGoogleTellsThatTheKeyIsGone(t *testing.T) {
	for name, code := range answersOfGoogle {
		t.Run(name, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			n, old := r.published(r1)
			r.IAM.AnswerGone(code)
			r.vanishes(r.oldID)
			for _, mode := range []activities.RevokeMode{activities.DisableKey, activities.EnableKey, activities.DeleteKey} {
				out, err := r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: old, Keep: n, Mode: mode})
				if err != nil || !slices.Equal(out.Gone, []string{r.oldID}) {
					t.Errorf("%s: %+v, %v", mode, out, err)
				}
			}
			r.retire(r1, old...)
			r.keys(n.KeyID)
		})
	}
}

func TestADeleteWhoseAnswerWasLostEndsInWhateverWayTheNextOneIsRefused(t *testing.T) {
	for name, code := range answersOfGoogle {
		for _, lag := range []time.Duration{0, 20 * time.Second} {
			t.Run(name+", lists that lag by "+lag.String(), func(t *testing.T) {
				r := newFixture(t, setup{stores: []string{scenario.Alias}, opts: scenario.Options{ListLag: lag.String()}})
				n, old := r.published(r1)
				r.Advance(time.Minute)
				r.IAM.AnswerGone(code)
				r.Cloud.SetTiming(simcloud.Timing{ListLag: lag})
				r.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "DeleteServiceAccountKey", Times: 1, Kind: simcloud.LoseReply})
				in := activities.RevokeInput{Target: r.target(r1), Keys: old, Keep: n, Mode: activities.DeleteKey}
				var out activities.Revoked
				tries := 0
				revoke := &step{workflow: "RotateKey", policy: thrice(), in: []any{in}, out: &out, activity: func(ctx context.Context, in activities.RevokeInput) (activities.Revoked, error) {
					// The cloud's clock is not the workflow's: a third try comes when the list has caught up.
					if tries++; tries == 3 {
						r.Advance(lag)
					}
					return r.acts.Revoke(ctx, in)
				}}
				if err := revoke.run(); err != nil || tries < 2 {
					t.Fatalf("%+v, %v", out, err)
				}
				r.keys(n.KeyID)
			})
		}
	}
}

func TestARefusalThatMeansWhatItSaysReachesAPersonAfterAFewTries(t *testing.T) {
	r := newFixture(t, setup{stores: []string{scenario.Alias}, opts: scenario.Options{ListLag: "20s"}})
	n, old := r.published(r1)
	r.Advance(time.Minute)
	r.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "DeleteServiceAccountKey", Kind: simcloud.Refuse, Code: 412})
	in := activities.RevokeInput{Target: r.target(r1), Keys: old, Keep: n, Mode: activities.DeleteKey}
	tries := 0
	revoke := &step{workflow: "RotateKey", policy: &temporal.RetryPolicy{MaximumAttempts: 20}, in: []any{in}, activity: func(ctx context.Context, in activities.RevokeInput) (activities.Revoked, error) {
		if tries++; tries == 1 {
			return activities.Revoked{}, fault.New(fault.Unavailable, "", "revoke a key, without an answer")
		}
		return r.acts.Revoke(ctx, in)
	}}
	err := revoke.run()
	var refused *temporal.ApplicationError
	if !errors.As(err, &refused) || refused.Type() != string(fault.Rejected) || tries != 6 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	r.keys(r.oldID, n.KeyID)
}
