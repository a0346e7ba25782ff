package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// slow is a key of a provider whose requests may take a minute, so that one that was given up can take effect for two.
func slow() setup {
	s := googleKey()
	s.opts.RequestTimeout = "1m"
	return s
}

// A7.
func TestADisableThatTakesEffectLateDoesNotTakeTheKeyThatARollBackReturnedTo(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, slow())
	// The first request is given up, and stands somewhere between here and the provider.
	r.Cloud.Inject(simcloud.Fault{Service: google, Method: "DisableServiceAccountKey", Kind: simcloud.DropBefore, Times: 1})
	disabled := 2*day + time.Second
	r.at(disabled+20*time.Second, func() {
		if s := r.status(); s.Phase != rotation.Revoke || r.enabled(r.oldID) {
			t.Errorf("the old key is not disabled in %s", s.Phase)
		}
		r.signal(rotation.RollBack, rotation.DecisionMessage{})
	})
	r.at(disabled+time.Minute, func() { r.disable(r.oldID) })
	r.unchanged(r.run(10 * day))
}

// A7.
func TestAKeyThatIsRefusedOnTheWayBackToItIsEnabledAgain(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, slow())
	r.at(2*day+30*time.Minute, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
	r.at(2*day+time.Hour, func() {
		if s := r.status(); s.Phase != rotation.RollingBack || r.published() != r.oldID || !r.enabled(r.oldID) {
			t.Errorf("applications do not read the old key in %s", s.Phase)
		}
		// Whoever did it, it was not this rotation's last word.
		r.rules.MayDie = []string{r.oldID}
		r.disable(r.oldID)
	})
	r.at(2*day+9*time.Hour, func() {
		if !r.enabled(r.oldID) {
			t.Errorf("applications read a key that the provider refuses, and nobody enables it:\n%s", r.status().Details)
			r.end()
		}
	})
	r.unchanged(r.run(10 * day))
}

// B2.
func TestAnOldKeyThatIsGoneIsRevoked(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	r.at(day, func() { r.delete(r.oldID) })
	r.gone(r.run(3*day), r.oldID)
}

// C1.
func TestAfterADeleteThatWasRefusedThereIsStillAWayBack(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	remove := r.refuse("DeleteServiceAccountKey")
	r.at(2*day+2*time.Hour, func() {
		s := r.status()
		if s.Phase != rotation.AwaitingApproval || !r.live(r.oldID) {
			t.Errorf("phase %s, the old key exists: %t", s.Phase, r.live(r.oldID))
		}
		if !slices.Contains(s.Accepts, rotation.RollBack) {
			t.Errorf("nothing was deleted, and there is no way back: it takes %v\n%s", s.Accepts, s.Details)
			r.end()
			return
		}
		remove()
		r.signal(rotation.RollBack, rotation.DecisionMessage{})
	})
	r.unchanged(r.run(10 * day))
}

// C2.
func TestAValueThatAPersonMadeCurrentMeanwhileIsNotReplacedWithoutAsking(t *testing.T) {
	t.Parallel()
	s := googleKey()
	s.stores = []string{scenario.Alias}
	r := newSkipping(t, s)
	id, value := r.foreign()
	r.during(google, "UploadServiceAccountKey", func() {
		n, err := r.SM.AddVersion("ci", value)
		if err == nil {
			err = r.SM.SetAlias("ci", simcloud.ReadCurrent, n)
		}
		if err != nil {
			t.Error(err)
		}
	})
	r.at(time.Hour, func() {
		s := r.status()
		if r.published() != id || s.Phase != rotation.AwaitingApproval {
			t.Errorf("applications read %s in %s, want what a person gave them: %s", r.published(), s.Phase, id)
		}
		if !strings.Contains(s.Details, id) && !strings.Contains(s.Details, value.Fingerprint()) {
			t.Errorf("the question does not name that value:\n%s", s.Details)
		}
		r.signal(rotation.Approve, rotation.DecisionMessage{})
	})
	res := r.run(5 * day)
	r.gone(res, r.oldID)
	if named := strings.Contains(strings.Join(res.FollowUps, " "), id); r.published() == id || r.live(id) && !named && !r.owed(id) {
		t.Errorf("applications read %s; the value of that person is live: %t, and left to a person: %t", r.published(), r.live(id), named)
	}
}

// owed reports whether the first store's record names a key that is to be revoked.
func (w *fixture) owed(id string) bool {
	w.Helper()
	l := w.key.Stores[0]
	s, err := w.Setup.Stores[l.Store].Load(context.Background(), l.Path)
	if err != nil {
		w.Error(err)
	}
	return slices.ContainsFunc(s.Duties, func(d store.Duty) bool { return d.KeyID == id })
}

// elsewhere is a second place for the key, empty, that was added to rekey.yaml.
func elsewhere(yaml string) string {
	return strings.Replace(yaml, "      - {store: gsm, path: ci}\n", "      - {store: gsm, path: ci}\n      - {store: gsm-latest, path: new-place}\n", 1)
}

// addPlace makes the second place.
func (w *fixture) addPlace() {
	w.Helper()
	for _, id := range []string{"new-place", "new-place-rekey-pending"} {
		if err := w.SM.CreateSecret(id, secret.Value{}); err != nil {
			w.Fatal(err)
		}
	}
}

// everywhere checks that applications read the same key in both places, and that it is the only one.
func (w *fixture) everywhere(res rotation.Result) {
	w.Helper()
	var read []string
	for _, l := range []rotation.Location{{Store: scenario.Alias, Path: "ci"}, {Store: scenario.Latest, Path: "new-place"}} {
		v, err := w.Setup.Stores[l.Store].Published(context.Background(), l.Path)
		if err != nil {
			w.Errorf("applications cannot read %s: %v", l, err)
		}
		read = append(read, w.Cloud.KeyID(v))
	}
	first, second := read[0], read[1]
	if res.Phase != rotation.Completed || first != second || first == w.oldID || !w.enabled(first) || w.live(w.oldID) {
		w.Errorf("it ended as %s: %s; applications read %q and %q, live: %v", res.Phase, res.Outcome, first, second, w.Cloud.LiveKeys())
	}
}

// C8.
func TestAKeyThatGotAnotherStoreIsDue(t *testing.T) {
	t.Parallel()
	s := googleKey()
	s.stores, s.edit = []string{scenario.Alias}, elsewhere
	r := newSkipping(t, s)
	r.addPlace()
	r.in.Reason = rotation.Scheduled
	r.everywhere(r.run(5 * day))
}

func TestAnAbandonedDisableIsUndoneAsSoonAsItsTimeIsOver(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, slow())
	r.Cloud.Inject(simcloud.Fault{Service: google, Method: "DisableServiceAccountKey", Kind: simcloud.DropBefore, Times: 1})
	disabled := 2*day + time.Second
	r.at(disabled+20*time.Second, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
	r.at(disabled+time.Minute, func() { r.disable(r.oldID) })
	r.at(disabled+150*time.Second, func() {
		if s := r.status(); !r.enabled(r.oldID) || r.published() != r.oldID {
			t.Errorf("half a minute after the horizon applications do not read the old key yet:\n%s", s.Details)
		}
	})
	r.run(10 * day)
}
