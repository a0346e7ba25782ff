package engine_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/iam/admin/apiv1/adminpb"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

const (
	google = simcloud.GoogleIAMService
	sm     = simcloud.SecretManagerService
)

// A1.
func TestAnEmergencyThatNamesTheOldKeyBeforeARollBackHasBegunNeverPublishesIt(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	// To the end: the emergency does not wait for it.
	r.Cloud.Inject(simcloud.Fault{Service: google, Method: "EnableServiceAccountKey", Kind: simcloud.Refuse, Code: 503})
	before := 0
	r.at(2*day+30*time.Minute, func() {
		if s := r.status(); s.Phase != rotation.Revoke || r.enabled(r.oldID) {
			t.Errorf("the old key is not disabled in %s", s.Phase)
		}
		r.signal(rotation.RollBack, rotation.DecisionMessage{})
	})
	r.at(2*day+40*time.Minute, func() {
		before = len(r.Cloud.Journal())
		r.signal(rotation.RaiseEmergency, leaked(r.first().Fingerprint()))
	})
	res := r.run(3 * day)
	r.gone(res, r.oldID)
	if r.publishedSince(r.oldID, before) {
		t.Error("applications were given the key that had leaked")
	}
}

// neighbours reports rotations under way as Temporal would.
type neighbours map[string]time.Time

func (n neighbours) Running(_ context.Context, key string) (time.Time, bool, error) {
	since, ok := n[key]
	return since, ok, nil
}

// A3.
func TestAnEmergencyThatComesWhileARotationLooksWhetherItGivesWayIsServed(t *testing.T) {
	t.Parallel()
	for sentence, send := range map[string]func(*skipping){
		"as a signal":  func(r *skipping) { r.signal(rotation.RaiseEmergency, everything) },
		"as an update": func(r *skipping) { r.takes(rotation.RaiseEmergency, everything) },
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			s := googleKey()
			s.edit = func(yaml string) string {
				other := strings.NewReplacer("name: ci\n", "name: other\n", "path: ci", "path: other").Replace(yaml[strings.Index(yaml, "  - name: ci"):])
				return strings.Replace(yaml, "    tier: production\n", "    tier: production\n    conflicts_with: [other]\n", 1) + other
			}
			r := newSkipping(t, s)
			r.rules.MayDie = []string{r.oldID}
			r.rotations = &asked{neighbours: neighbours{"ci": r.now(), "other": r.now().Add(-time.Hour)}, first: func() { send(r) }}
			r.gone(r.run(day), r.oldID)
		})
	}
}

// asked does something when it is asked for the first time.
type asked struct {
	neighbours
	first func()
}

func (a *asked) Running(ctx context.Context, key string) (time.Time, bool, error) {
	if first := a.first; first != nil {
		a.first = nil
		first()
	}
	return a.neighbours.Running(ctx, key)
}

var _ activities.Rotations = (*asked)(nil)

// A4.
func TestAVersionNumberThatMeansTheOldKeyInOneStoreAndTheNewOneInAnotherMeansBoth(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	if n, err := r.SM.AddVersion("ci-latest", r.first()); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	r.at(day, func() {
		s := r.status()
		if s.Phase != rotation.Grace {
			t.Errorf("phase %s", s.Phase)
		}
		r.signal(rotation.RaiseEmergency, leaked("2"))
	})
	res := r.run(3 * day)
	r.gone(res, r.made()[:2]...)
}

// B2.
func TestAnEmergencyThatRevokesFirstGoesOnWhenItsKeyHasVanished(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	r.rules.MayDie = []string{r.oldID}
	m := everything
	m.RevokeFirst = true
	r.emergency(m)
	r.during(google, "DisableServiceAccountKey", func() { r.delete(r.oldID) })
	r.gone(r.run(day), r.oldID)
}

// delete is a person who deletes a key in Google's console.
func (w *fixture) delete(id string) {
	_, err := w.IAM.DeleteServiceAccountKey(context.Background(), &adminpb.DeleteServiceAccountKeyRequest{
		Name: "projects/-/serviceAccounts/" + w.key.Account + "/keys/" + id,
	})
	if err != nil {
		w.Error(err)
	}
}

// B3.
func TestAnEmergencyIsServedAlsoWhileTheOldKeyCannotBeEnabledAgain(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	r.Cloud.Inject(simcloud.Fault{Service: google, Method: "EnableServiceAccountKey", Kind: simcloud.Refuse, Code: 403})
	r.at(2*day+30*time.Minute, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
	r.at(2*day+40*time.Minute, func() {
		r.rules.MayDie = r.made()
		r.signal(rotation.RaiseEmergency, everything)
	})
	res := r.run(3 * day)
	r.gone(res, r.made()[:2]...)
	if took := res.EndedAt.Sub(r.begin); took > 2*day+2*time.Hour {
		t.Errorf("it took %s; the emergency was raised after two days and forty minutes", took)
	}
}

// B5.
func TestAnEmergencyDoesNotWaitUntilTheProviderWantsToBeAskedAgain(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	r.rules.MayDie = []string{r.oldID}
	r.Cloud.Inject(simcloud.Fault{Service: google, Method: "ListServiceAccountKeys", Kind: simcloud.Refuse, Code: 429, RetryAfter: day, Times: 1})
	r.at(time.Hour, func() { r.signal(rotation.RaiseEmergency, everything) })
	res := r.run(5 * day)
	r.gone(res, r.oldID)
	if took := res.EndedAt.Sub(r.begin); took > 2*time.Hour {
		t.Errorf("it took %s; the emergency was raised after an hour", took)
	}
}

// C3.
func TestARotationThatFollowsDoesNotAskAboutTheClaimOfItsPredecessor(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	r.ahead = 5 * time.Minute
	r.rules.MayDie = []string{r.oldID}
	r.during(sm, "AddSecretVersion", func() { r.signal(rotation.RaiseEmergency, everything) })
	r.gone(r.run(day), r.oldID)
	if len(r.histories) < 2 {
		t.Error("no rotation followed")
	}
}

// C5.
func TestAnEmergencyTakesAwayTheQuestionWhatToDoWithoutAWayBack(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	r.at(day, func() {
		r.delete(r.oldID)
		r.signal(rotation.RollBack, rotation.DecisionMessage{})
	})
	r.at(day+time.Hour, func() {
		if s := r.status(); s.Phase != rotation.AwaitingApproval || !strings.Contains(s.Details, "roll-back cannot go on") {
			t.Errorf("nobody is asked in %s:\n%s", s.Phase, s.Details)
		}
		r.signal(rotation.RaiseEmergency, leaked(r.first().Fingerprint()))
	})
	r.gone(r.run(2*day), r.oldID)
}

// A6, and what else a rotation knows.
func TestWhatARotationKnowsIsNotForgottenByTheOneThatFollows(t *testing.T) {
	t.Parallel()
	t.Run("a key that was sent in a message is not published", func(t *testing.T) {
		t.Parallel()
		r := newSkipping(t, manualKey())
		pasted, value := r.OpenAI.CreateKey(r.key.Account, "pasted")
		r.at(time.Hour, func() {
			r.send(rotation.KeySupplied, map[string]string{"by": "operator", "version": value.Reveal()})
		})
		r.at(2*time.Hour, func() { r.signal(rotation.RaiseEmergency, everything) })
		r.at(3*time.Hour, func() {
			if s := r.status(); s.Phase != rotation.AwaitingKey {
				t.Errorf("phase %s", s.Phase)
			}
			n, err := r.SM.AddVersion("gpt", value)
			if err != nil {
				t.Error(err)
			}
			r.signal(rotation.KeySupplied, rotation.DecisionMessage{Version: strconv.FormatInt(n, 10)})
		})
		r.at(4*time.Hour, func() {
			if s := r.status(); s.Phase != rotation.AwaitingKey || s.New == value.Fingerprint() {
				t.Errorf("a key that stands in a history was taken: %s\n%s", s.Phase, s.Details)
				r.end()
				return
			}
			r.supply()
		})
		r.at(5*time.Hour, func() {
			if r.publishedSince(pasted, 0) {
				return
			}
			_ = r.OpenAI.DeleteKey(r.oldID)
			_ = r.OpenAI.DeleteKey(pasted)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		res := r.run(day)
		if r.publishedSince(pasted, 0) {
			t.Error("applications were given a key that stands in a history")
		}
		r.gone(res, r.oldID)
	})
	t.Run("a note for whoever comes next is shown", func(t *testing.T) {
		t.Parallel()
		r := newSkipping(t, manualKey())
		const note = "the console wants the hardware token"
		r.at(time.Hour, func() { r.signal(rotation.AddNote, rotation.DecisionMessage{By: "ana", Why: note}) })
		r.at(2*time.Hour, func() { r.signal(rotation.RaiseEmergency, everything) })
		r.at(3*time.Hour, func() {
			if s := r.status(); s.Phase != rotation.AwaitingKey || !strings.Contains(s.Details, note) {
				t.Errorf("the note is gone in %s:\n%s", s.Phase, s.Details)
			}
			r.end()
		})
		r.run(day)
	})
	t.Run("keys that were revoked are named in the result", func(t *testing.T) {
		t.Parallel()
		s := googleKey()
		s.stores = []string{scenario.Alias}
		r := newSkipping(t, s)
		r.during(sm, "DestroySecretVersion", func() {
			r.rules.MayDie = r.made()
			r.signal(rotation.RaiseEmergency, everything)
		})
		res := r.run(5 * day)
		r.gone(res, r.made()[:2]...)
		for _, id := range r.made()[:2] {
			if !slices.Contains(res.Revoked, id) {
				t.Errorf("%s was revoked and is not named: %v", id, res.Revoked)
			}
		}
	})
	t.Run("that a name is not known", func(t *testing.T) {
		t.Parallel()
		r := newSkipping(t, googleKey())
		r.rules.MayDie = []string{r.oldID}
		r.emergency(leaked(r.first().Fingerprint(), "0123456789ab"))
		r.during(sm, "AddSecretVersion", func() { r.signal(rotation.RaiseEmergency, everything) })
		res := r.run(day)
		r.gone(res, r.oldID)
		if !res.Unknown {
			t.Errorf("the result does not say that a name is not known: %+v", res.FollowUps)
		}
	})
}

// B4: an emergency that only revokes.
func TestAnEmergencyThatMintsNothingNeedsNoRoomForAKey(t *testing.T) {
	t.Parallel()
	s := googleKey()
	s.stores = []string{scenario.Alias}
	r := newSkipping(t, s)
	id, value := r.forgotten()
	r.crowd()
	extra, _ := r.foreign()
	r.rules.Foreign = append(r.rules.Foreign, extra)
	r.emergency(leaked(value.Fingerprint()))
	res := r.run(day)
	if res.Phase != rotation.Completed || r.live(id) || r.published() != r.oldID {
		t.Errorf("it ended as %s: %s", res.Phase, res.Outcome)
	}
}

// disable is a request to disable a key that reaches Google now.
func (w *fixture) disable(id string) {
	_, err := w.IAM.DisableServiceAccountKey(context.Background(), &adminpb.DisableServiceAccountKeyRequest{
		Name: "projects/-/serviceAccounts/" + w.key.Account + "/keys/" + id,
	})
	if err != nil {
		w.Error(err)
	}
}
