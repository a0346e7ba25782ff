package activities_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

func TestCreateMintsOneStampedKeyAndStagesItWhereNobodyReadsIt(t *testing.T) {
	for _, where := range []string{scenario.Alias, scenario.Latest} {
		t.Run(where, func(t *testing.T) {
			r := newFixture(t, google(where))
			n := r.create(r1)
			r.keys(r.oldID, n.KeyID)
			s := r.record(0)
			if s.Pending == nil || s.Pending.KeyID != n.KeyID || s.Pending.Number != n.Numbers[0] || s.Pending.Rotation != r1 {
				t.Errorf("the record says pending %+v, Create %+v", s.Pending, n)
			}
			stamp, ok := rotation.ParseStamp(r.Cloud.LiveKeys()[n.KeyID])
			if want := (rotation.Stamp{Install: "scene1", Key: "ci", Rotation: r1, Attempt: 1}); !ok || stamp != want {
				t.Errorf("the key is marked %+v, want %+v", stamp, want)
			}
			if got := r.Cloud.PublishedKeys()[scenario.Path(where, "ci")]; got != r.oldID {
				t.Errorf("applications read %s after Create", got)
			}
		})
	}
}

func TestAQuotaOfTheStoreCostsNoKey(t *testing.T) {
	for name, quota := range map[string]simcloud.Fault{
		"when the value is added": {Method: "AddSecretVersion", Times: 2},
		"when the stage is saved": {Method: "UpdateSecret", Skip: 1, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			quota.Service, quota.Kind, quota.Code = "secret-manager", simcloud.Refuse, 429
			r.Cloud.Inject(quota)
			n := r.create(r1)
			r.keys(r.oldID, n.KeyID)
			if made := r.Cloud.Calls("google-iam", "UploadServiceAccountKey"); made != 1 {
				t.Errorf("%d keys were minted", made)
			}
		})
	}
}

func TestAStoreThatAsksForADayIsNotWaitedForInsideAStep(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	full := inStore("AddSecretVersion", simcloud.Refuse)
	full.Code, full.RetryAfter = 429, 24*time.Hour
	r.Cloud.Inject(full)
	_, err := r.tryCreate(r1)
	if f := r.fails(err, fault.Throttled, ""); f.Unsettled || f.RetryAfter != 24*time.Hour {
		t.Errorf("%+v", f)
	}
	r.keys(r.oldID)
}

// The heart of the fences: a request that was given up takes effect long after another one did its work.
func TestAMintThatTakesEffectAfterItsRetryIsSweptByRetire(t *testing.T) {
	r := newFixture(t, setup{stores: []string{scenario.Alias, scenario.Latest}, opts: scenario.Options{RequestTimeout: "1s"}})
	foreign, _, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
	if err != nil {
		t.Fatal(err)
	}
	r.rules.Foreign = []string{foreign}
	late := upload(simcloud.CommitLate)
	late.Release, late.Done = make(chan struct{}), make(chan struct{})
	r.Cloud.Inject(late)
	_, err = r.tryCreate(r1)
	if f := r.fails(err, fault.Unavailable, ""); !f.Unsettled {
		t.Error("a mint that was not answered is not called unsettled")
	}
	if out, err := r.tryCreate(r1); err != nil || out.Wait <= 0 {
		t.Fatalf("a retry within the horizon: %+v, %v", out, err)
	}
	r.Advance(r.horizon())
	p, err := r.prepare(r1, rotation.Manual)
	if err != nil {
		t.Fatal(err)
	}
	n := r.store(r1, r.create(r1))
	close(late.Release)
	<-late.Done
	if got := len(r.Cloud.LiveKeys()); got != 4 {
		t.Fatalf("%d keys exist, want the old, the foreign, the late and the new one", got)
	}
	out, err := r.tryPromote(r1, n, p.Old...)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.revoke(r1, activities.DeleteKey, p.Old...); err != nil {
		t.Fatal(err)
	}
	swept := r.retire(r1, p.Old...)
	if len(swept) != 1 {
		t.Errorf("swept %v, want the late key alone", swept)
	}
	r.keys(foreign, out.To.KeyID)
}

func TestAMintThatTakesEffectLateIsSweptByDiscard(t *testing.T) {
	r := newFixture(t, setup{stores: []string{scenario.Alias}, opts: scenario.Options{RequestTimeout: "1s"}})
	late := upload(simcloud.CommitLate)
	late.Release, late.Done = make(chan struct{}), make(chan struct{})
	r.Cloud.Inject(late)
	if _, err := r.tryCreate(r1); err == nil {
		t.Fatal("the mint was answered")
	}
	out, err := r.tryDiscard(r1)
	if err != nil || out.SweepIn <= 0 {
		t.Fatalf("within the horizon: %+v, %v", out, err)
	}
	if c := r.record(0).Claim; c == nil || c.Rotation != r1 {
		t.Errorf("the claim was given back although the mint may still take effect: %+v", c)
	}
	close(late.Release)
	<-late.Done
	r.discard(r1)
	r.keys(r.oldID)
	if c := r.record(0).Claim; c != nil {
		t.Errorf("a claim is left: %+v", c)
	}
}

func TestAListThatLagsLeadsNeitherToASecondKeyNorToALostOne(t *testing.T) {
	r := newFixture(t, setup{stores: []string{scenario.Alias}, opts: scenario.Options{ListLag: "5m"}})
	r.Cloud.SetTiming(simcloud.Timing{ListLag: 5 * time.Minute})
	r.Cloud.Inject(upload(simcloud.LoseReply))
	if _, err := r.tryCreate(r1); err == nil {
		t.Fatal("the mint was answered")
	}
	var waited time.Duration
	for waited < r.horizon()-2*time.Second {
		out, err := r.tryCreate(r1)
		if err != nil || out.New != nil || out.Wait <= 0 {
			t.Fatalf("after %s the list may still hide a key, and Create answers %+v, %v", waited, out, err)
		}
		r.Advance(time.Minute)
		waited += time.Minute
	}
	if r.mints() != 1 {
		t.Fatalf("%d mints were sent within the horizon", r.mints())
	}
	r.Advance(time.Minute)
	n := r.create(r1)
	r.keys(r.oldID, n.KeyID)
}

func TestAnEmptyListIsNoProofEvenForAnotherRotation(t *testing.T) {
	r := newFixture(t, setup{stores: []string{scenario.Alias}, opts: scenario.Options{ListLag: "5m"}})
	r.Cloud.SetTiming(simcloud.Timing{ListLag: 5 * time.Minute})
	r.Cloud.Inject(upload(simcloud.LoseReply))
	if _, err := r.tryCreate(r1); err == nil {
		t.Fatal("the mint was answered")
	}
	// r1 is terminated, r2 begins at once.
	if out, err := r.tryCreate(r2); err != nil || out.Wait <= 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	r.Advance(r.horizon())
	n := r.create(r2)
	r.keys(r.oldID, n.KeyID)
}

func TestOfTwoAttemptsAtTheSameTimeTheLoserDeletesItsOwnKey(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	held := upload(simcloud.Hold)
	held.Reached, held.Release = make(chan struct{}), make(chan struct{})
	r.Cloud.Inject(held)
	abandoned := make(chan error)
	go func() {
		_, err := r.tryCreate(r1)
		abandoned <- err
	}()
	<-held.Reached
	r.Advance(r.horizon())
	n := r.create(r1)
	close(held.Release)
	_ = r.fails(<-abandoned, fault.Rejected, "claim_lost")
	r.keys(r.oldID, n.KeyID)
	if s := r.record(0); s.Pending == nil || s.Pending.KeyID != n.KeyID || s.Claim == nil || s.Claim.Attempt != 2 {
		t.Errorf("the loser touched the record: %+v %+v", s.Pending, s.Claim)
	}
	left, err := r.acts.Stores[scenario.Alias].Versions(context.Background(), "ci")
	if err != nil || len(left) != 2 {
		t.Errorf("readable versions: %v, %v; the loser's should be destroyed", left, err)
	}
}

func TestAttemptsThatRaceStageExactlyOneKey(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { _, _ = r.tryCreate(r1) })
	}
	all.Wait()
	r.Advance(r.horizon())
	n := r.create(r1)
	r.keys(r.oldID, n.KeyID)
}

func TestAClaimThatIsTakenBetweenMintAndStageWins(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	held := inStore("AddSecretVersion", simcloud.Hold)
	held.Reached, held.Release = make(chan struct{}), make(chan struct{})
	r.Cloud.Inject(held)
	loser := make(chan error)
	go func() {
		_, err := r.tryCreate(r1)
		loser <- err
	}()
	<-held.Reached
	other := store.Claim{Install: "scene1", Rotation: r2, Attempt: 1, At: r.Now()}
	r.write(0, func(s *store.Snapshot) { s.Claim = &other })
	close(held.Release)
	_ = r.fails(<-loser, fault.Rejected, "claim_lost")
	r.keys(r.oldID)
	s := r.record(0)
	if s.Pending != nil || s.Claim == nil || s.Claim.Rotation != r2 || s.Claim.Attempt != 1 || s.Claim.Settled {
		t.Errorf("the other's claim was touched: %+v %+v", s.Pending, s.Claim)
	}
}

func TestARecordThatChangesInTheMeantimeLosesNothingIfTheClaimStands(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	held := inStore("AddSecretVersion", simcloud.Hold)
	held.Reached, held.Release = make(chan struct{}), make(chan struct{})
	r.Cloud.Inject(held)
	done := make(chan activities.Created)
	go func() {
		out, _ := r.tryCreate(r1)
		done <- out
	}()
	<-held.Reached
	r.write(0, func(s *store.Snapshot) {
		s.Duties = append(s.Duties, store.Duty{KeyID: "x", Fingerprint: "0123456789ab", Rotation: r3})
	})
	close(held.Release)
	out := <-done
	if out.New == nil {
		t.Fatalf("%+v", out)
	}
	if s := r.record(0); s.Pending == nil || s.Pending.KeyID != out.New.KeyID || len(s.Duties) != 1 {
		t.Errorf("the record: %+v %+v", s.Pending, s.Duties)
	}
	r.keys(r.oldID, out.New.KeyID)
}

func TestAStoreThatTakesNoValueLeavesNoKey(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	refused := inStore("AddSecretVersion", simcloud.Refuse)
	refused.Code = 403
	r.Cloud.Inject(refused)
	_, err := r.tryCreate(r1)
	if f := r.fails(err, fault.AccessDenied, ""); f.Unsettled {
		t.Error("the key is deleted, and yet the failure is called unsettled")
	}
	if r.mints() != 1 {
		t.Errorf("%d mints were sent", r.mints())
	}
	r.keys(r.oldID)
}

func TestAKeyThatCannotBeStagedNorDeletedIsSweptByTheNextAttempt(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	refused, alive := inStore("AddSecretVersion", simcloud.Refuse), simcloud.Fault{
		Service: simcloud.GoogleIAMService, Method: "DeleteServiceAccountKey", Times: 1, Kind: simcloud.DropBefore}
	refused.Code = 403
	r.Cloud.Inject(refused)
	r.Cloud.Inject(alive)
	_, err := r.tryCreate(r1)
	if f := r.fails(err, fault.AccessDenied, ""); !f.Unsettled {
		t.Error("a key is left, and yet the failure is called settled")
	}
	r.Advance(r.horizon())
	n := r.create(r1)
	r.keys(r.oldID, n.KeyID)
}

func TestAStagingThatTookEffectWithoutAnAnswerCounts(t *testing.T) {
	for _, where := range []string{scenario.Alias, scenario.Latest} {
		t.Run(where, func(t *testing.T) {
			r := newFixture(t, google(where))
			lost := inStore("UpdateSecret", simcloud.LoseReply)
			lost.Skip = 1 // the claim
			r.Cloud.Inject(lost)
			_, err := r.tryCreate(r1)
			if f := r.fails(err, fault.Unavailable, ""); !f.Unsettled {
				t.Error("a staging without an answer is not called unsettled")
			}
			n := r.create(r1)
			r.keys(r.oldID, n.KeyID)
			if r.mints() != 1 {
				t.Errorf("%d mints were sent", r.mints())
			}
		})
	}
}

// The key is deleted because the record did not name it. Then the record must never come to name it.
func TestAStagingThatTakesEffectAfterItsKeyWasDeletedIsTooLate(t *testing.T) {
	for _, where := range []string{scenario.Alias, scenario.Latest} {
		t.Run(where, func(t *testing.T) {
			r := newFixture(t, setup{stores: []string{where}, opts: scenario.Options{RequestTimeout: "1s"}})
			late := inStore("UpdateSecret", simcloud.CommitLate)
			late.Skip, late.Release, late.Done = 1, make(chan struct{}), make(chan struct{})
			r.Cloud.Inject(late)
			if _, err := r.tryCreate(r1); err == nil {
				t.Fatal("the staging was answered")
			}
			r.keys(r.oldID)
			close(late.Release)
			<-late.Done
			if p := r.record(0).Pending; p != nil {
				t.Errorf("the record names a key that is deleted: %+v", p)
			}
			r.Advance(r.horizon())
			n := r.create(r1)
			r.keys(r.oldID, n.KeyID)
		})
	}
}

func TestAMintThatIsRefusedHasNotToBeWaitedOut(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.IAM.ForbidKeyUpload(true)
	_, err := r.tryCreate(r1)
	_ = r.fails(err, fault.Rejected, "org_policy")
	r.IAM.ForbidKeyUpload(false)
	n := r.create(r1)
	if s, _ := rotation.ParseStamp(n.Stamp); s.Attempt != 2 {
		t.Errorf("the second attempt has the stamp %s", n.Stamp)
	}
	r.keys(r.oldID, n.KeyID)
}

func TestCreateRepeatedGivesTheSameKeyAndSendsNoSecondMint(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	p, err := r.prepare(r1, rotation.Manual)
	if err != nil {
		t.Fatal(err)
	}
	first := r.create(r1)
	if again := r.create(r1); again.KeyID != first.KeyID || again.Numbers[0] != first.Numbers[0] {
		t.Errorf("%+v, then %+v", first, again)
	}
	r.Advance(r.horizon())
	out, err := r.tryPromote(r1, r.store(r1, first), p.Old...)
	if err != nil {
		t.Fatal(err)
	}
	// A workflow that was reset comes here again after its own promote.
	again := r.create(r1)
	if again.KeyID != first.KeyID || again.Numbers[0] != out.To.Numbers[0] || again.Numbers[1] != out.To.Numbers[1] {
		t.Errorf("after promote: %+v, want %+v", again, out.To)
	}
	if r.mints() != 1 {
		t.Errorf("%d mints were sent", r.mints())
	}
	// And through the next steps, which change nothing.
	p, err = r.prepare(r1, rotation.Manual)
	if err != nil || slices.ContainsFunc(p.Old, func(o activities.Ref) bool { return o.KeyID == first.KeyID }) {
		t.Errorf("its own value is old to it: %+v, %v", p.Old, err)
	}
	if n := r.store(r1, again); n.Numbers[0] != out.To.Numbers[0] || n.Numbers[1] != out.To.Numbers[1] {
		t.Errorf("Store made other versions: %v, want %v", n.Numbers, out.To.Numbers)
	}
	if d := r.discard(r1); d.Published == nil {
		t.Error("Discard does not say that the value is published")
	}
	r.keys(r.oldID, first.KeyID)
}

func TestWhereTheProviderKeepsNoStampsALostMintIsAQuestion(t *testing.T) {
	r := newFixture(t, setup{stores: []string{scenario.Alias}, opts: scenario.Options{Mode: "create"}})
	r.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "CreateServiceAccountKey", Times: 1, Kind: simcloud.LoseReply})
	if _, err := r.tryCreate(r1); err == nil {
		t.Fatal("the mint was answered")
	}
	var lost string
	for id := range r.Cloud.LiveKeys() {
		if id != r.oldID {
			lost = id
		}
	}
	r.rules.Foreign = []string{lost, r.oldID}
	r.Advance(r.horizon())
	out, err := r.tryCreate(r1)
	if err != nil || !names(out.Question, lost) {
		t.Fatalf("%+v, %v; want a question about %s", out, err, lost)
	}
	again, err := r.acts.Create(context.Background(), activities.CreateInput{Target: r.target(r1), StartedAt: r.begin, ApprovedQuestions: []rotation.Ask{*out.Question}})
	if r.note(again, err); err != nil || again.New == nil {
		t.Fatalf("after the answer: %+v, %v", again, err)
	}
	r.keys(r.oldID, lost, again.New.KeyID)
}

func TestAKeyThatApplicationsReadIsNotReplacedByItsOwnRotation(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	n, _ := r.published(r1)
	before := r.mints()
	out, err := r.acts.Create(context.Background(), activities.CreateInput{Target: r.target(r1), StartedAt: r.begin, Replace: n.Fingerprint})
	if r.note(out, err); err != nil || out.New == nil || out.New.KeyID != n.KeyID || r.mints() != before {
		t.Errorf("%+v, %v, after %d more mints", out, err, r.mints()-before)
	}
	r.keys(r.oldID, n.KeyID)
}

func TestAMintThatWasNotAnsweredIsWaitedForAlsoAfterAnotherSucceeded(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.Cloud.Inject(upload(simcloud.DropBefore))
	if _, err := r.tryCreate(r1); err == nil {
		t.Fatal("the mint was answered")
	}
	r.Advance(r.horizon())
	r.create(r1)
	if out, err := r.tryRetire(r1); err != nil || out.SweepIn <= 0 {
		t.Errorf("the sweep does not wait: %+v, %v", out, err)
	}
}

func TestWhoeverApprovesOneOfTwoQuestionsIsAskedTheOther(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	stamp := rotation.Stamp{Install: "scene1", Key: "ci", Rotation: r3, Attempt: 1}
	elsewhere, err := r.acts.Providers["google"].Mint(context.Background(), scenario.Account("ci"), stamp.String())
	if err != nil {
		t.Fatal(err)
	}
	r.rules.Foreign = []string{elsewhere.ID}
	old := r.record(0).Current.Number
	r.write(0, func(s *store.Snapshot) { s.Pending = &store.Version{Number: old} })
	r.Advance(24 * time.Hour)
	first, err := r.tryCreate(r1)
	if err != nil || !names(first.Question, "pending") {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := r.acts.Create(context.Background(), activities.CreateInput{Target: r.target(r1), StartedAt: r.begin, ApprovedQuestions: []rotation.Ask{*first.Question}})
	if r.note(second, err); err != nil || !names(second.Question, elsewhere.ID) {
		t.Errorf("%+v, %v", second, err)
	}
}
