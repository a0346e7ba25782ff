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
	"github.com/rekeyhq/rekey/secret"
)

func TestAValueIsCalledByItsNumberInAnyStoreOrInOne(t *testing.T) {
	stores := []rotation.Location{{Store: "alias", Path: "ci"}, {Store: "latest", Path: "ci-latest"}, {Store: "latest", Path: "other"}}
	r := activities.Ref{KeyID: "k1", Fingerprint: "0123456789ab", Numbers: []string{"3", "p7", ""}}
	for name, want := range map[string]bool{
		"0123456789ab": true, "k1": true, "3": true, "p7": true,
		"alias:3": true, "latest:p7": true, "alias:ci:3": true, "latest:ci-latest:p7": true,
		"alias:p7": false, "latest:3": false, "latest:other:p7": false, "latest:": false, "latest:other:": false, "other:3": false,
		"4": false, "": false, ":": false, "alias": false,
	} {
		if got := r.Called(name, stores); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	// A value that was noted when the key had other stores.
	if short := (activities.Ref{Numbers: []string{"3"}}); !short.Called("alias:3", stores) || short.Called("latest:p7", stores) {
		t.Error("of a value that is in the first store only")
	}
}

func TestAnEmergencyThatNamesOneStoresVersionMeansThatValueAlone(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	n, _ := r.published(r1)
	first, second := r.oldID, n.KeyID
	for sentence, c := range map[string]struct {
		named   string
		work    rotation.Work
		old     []string
		unknown bool
	}{
		"what applications read, by one store's number": {"gsm:2", rotation.Rotate, []string{second, first}, false},
		"what applications read, by its place":          {"gsm-latest:ci-latest:2", rotation.Rotate, []string{second, first}, false},
		"what an earlier rotation left":                 {"gsm-latest:1", rotation.Finish, []string{first}, false},
		"a store that the key does not have":            {"vault:2", rotation.Finish, []string{first}, true},
		"a number that one store does not have":         {"gsm:9", rotation.Finish, []string{first}, true},
	} {
		p, err := r.emergency(r2, c.named)
		if err != nil || p.Verdict.Work != c.work || !slices.Equal(ids(p.Old), c.old) || (len(p.Unknown) > 0) != c.unknown {
			t.Errorf("%s: %+v, %v", sentence, p, err)
		}
		for _, u := range p.Unknown {
			for _, form := range []string{"fingerprint", "its id at the provider", "version number", "gsm:<number>"} {
				if !strings.Contains(u, form) {
					t.Errorf("%q does not say that a value can be named by %s", u, form)
				}
			}
		}
	}
}

func TestABareNumberMeansEveryValueThatHasItInAnyStore(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	// The second store has had a version more: number 2 is another value in each.
	strayID, stray, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []secret.Value{stray, r.First("ci")} {
		if _, err := r.SM.AddVersion("ci-latest", v); err != nil {
			t.Fatal(err)
		}
	}
	n, _ := r.published(r1)
	if n.Numbers[0] != "2" || n.Numbers[1] != "4" {
		t.Fatalf("the new value is version %v", n.Numbers)
	}
	for named, want := range map[string][]string{
		"2":            {n.KeyID, r.oldID, strayID},
		"gsm:2":        {n.KeyID, r.oldID},
		"gsm-latest:2": {r.oldID, strayID},
	} {
		if p, err := r.emergency(r2, named); err != nil || !slices.Equal(ids(p.Old), want) || len(p.Unknown) > 0 {
			t.Errorf("%s: old %v, want %v; %+v, %v", named, ids(p.Old), want, p, err)
		}
	}
}

// hold stops the next n requests to a method until release is closed; reached is closed for each that has come.
func (r *fixture) hold(n int, f simcloud.Fault) (reached []chan struct{}, release chan struct{}) {
	release = make(chan struct{})
	for range n {
		f.Kind, f.Times, f.Release, f.Reached = simcloud.Hold, 1, release, make(chan struct{})
		reached = append(reached, f.Reached)
		r.Cloud.Inject(f)
	}
	return reached, release
}

func TestAnEmergencyLooksAtHundredsOfOldValuesSideBySide(t *testing.T) {
	const many, atOnce = 200, 8
	r := newFixture(t, google(scenario.Alias))
	r.rules = simcloud.Rules{} // people made and deleted these keys
	var live []string
	for i := range many {
		id, v, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.SM.AddVersion("ci", v); err != nil {
			t.Fatal(err)
		}
		if i%50 == 7 {
			live = append(live, id)
		} else {
			r.vanishes(id)
		}
	}
	slices.Reverse(live) // the newest first
	for what, f := range map[string]simcloud.Fault{
		"reads":  {Service: simcloud.SecretManagerService, Method: "AccessSecretVersion", Skip: 2},
		"probes": {Service: simcloud.GoogleTokenService, Skip: 1},
	} {
		reached, release := r.hold(atOnce, f)
		type answer struct {
			activities.Prepared
			err error
		}
		done := make(chan answer)
		go func() {
			p, err := r.emergency(r1)
			done <- answer{p, err}
		}()
		for i, c := range reached {
			select {
			case <-c:
			case <-time.After(20 * time.Second):
				close(release)
				<-done
				t.Fatalf("%s: only %d at the same time", what, i)
			}
		}
		close(release)
		got := <-done
		if got.err != nil || !slices.Equal(ids(got.Old), append([]string{r.oldID}, live...)) {
			t.Errorf("%s held up: old %v, want the current key and %v; %v", what, ids(got.Old), live, got.err)
		}
	}
}

func TestALookAtOldValuesThatCannotBeFinishedFails(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.rules = simcloud.Rules{}
	for range 5 {
		_, v, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.SM.AddVersion("ci", v); err != nil {
			t.Fatal(err)
		}
	}
	for what, f := range map[string]simcloud.Fault{
		"a read":  {Service: simcloud.SecretManagerService, Method: "AccessSecretVersion", Skip: 4},
		"a probe": {Service: simcloud.GoogleTokenService, Skip: 3},
	} {
		f.Kind, f.Times, f.Code = simcloud.Refuse, 1, 503
		r.Cloud.Inject(f)
		if p, err := r.emergency(r1); err == nil {
			t.Errorf("%s: %+v", what, p)
		}
		if p, err := r.emergency(r1); err != nil || len(p.Old) != 6 {
			t.Errorf("after %s: %v, %v", what, ids(p.Old), err)
		}
	}
}

func TestAnEmergencyOfARotationThatHasStagedItsKeyAsksWhetherThatLeaked(t *testing.T) {
	for sentence, c := range map[string]struct {
		named func(r *fixture, n activities.Ref) []string
		anew  bool
	}{
		"no value is named, so all have leaked": {func(*fixture, activities.Ref) []string { return nil }, true},
		"the new one is named":                  {func(_ *fixture, n activities.Ref) []string { return []string{n.Fingerprint} }, true},
		"the old one is named":                  {func(r *fixture, _ activities.Ref) []string { return []string{r.First("ci").Fingerprint()} }, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			n := r.create(r1)
			p, err := r.acts.Prepare(context.Background(), activities.PrepareInput{Target: r.target(r1), Reason: rotation.Emergency, StartedAt: r.begin, Leaked: c.named(r, n)})
			if r.note(p, err); err != nil || p.StartAnew != c.anew {
				t.Fatalf("it begins anew: %t, want %t: %+v, %v", p.StartAnew, c.anew, p, err)
			}
			if slices.ContainsFunc(p.Old, func(o activities.Ref) bool { return o.KeyID == n.KeyID }) {
				t.Errorf("its own key is among those that it replaces: %v", p.Old)
			}
		})
	}
}

func TestWhatTheRotationBeforeHasStagedGoesWhateverLeaked(t *testing.T) {
	for sentence, follows := range map[string][]string{"of the same workflow": {r1}, "of another one": nil} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			_, forgotten, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
			if err != nil {
				t.Fatal(err)
			}
			n := r.create(r1)
			if _, err := r.SM.AddVersion("ci", forgotten); err != nil {
				t.Fatal(err)
			}
			p, err := r.acts.Prepare(context.Background(), activities.PrepareInput{
				Target: r.target(r2), Reason: rotation.Emergency, StartedAt: r.begin.Add(time.Hour), Leaked: []string{forgotten.Fingerprint()}, Predecessors: follows,
			})
			if r.note(p, err); err != nil || p.Verdict.Work != rotation.Finish {
				t.Fatalf("%+v, %v", p, err)
			}
			goes := slices.ContainsFunc(p.Old, func(o activities.Ref) bool { return o.KeyID == n.KeyID })
			if goes != (follows != nil) || slices.ContainsFunc(p.Old, func(o activities.Ref) bool { return o.KeyID == r.oldID }) {
				t.Errorf("to be revoked are %v; staged was %s", p.Old, n.KeyID)
			}
		})
	}
}
