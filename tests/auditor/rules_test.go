package auditor

import (
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
)

func TestAGoodRotationHasNoFindings(t *testing.T) {
	for _, f := range Judge(good().Case) {
		t.Error(f)
	}
}

func TestOfARotationThatGoesOnNobodyKnowsWhatShouldBeLeft(t *testing.T) {
	s := newStory()
	s.stage()
	for _, f := range Judge(s.Case) {
		t.Error(f)
	}
}

func TestAWayBackHasNoFindings(t *testing.T) {
	for _, f := range Judge(back().Case) {
		t.Error(f)
	}
}

// back is a rotation that is asked in grace to go back.
func back() *story {
	s := newStory()
	s.stage()
	s.verify(newValue, first, second)
	s.duties()
	s.publish(first, second)
	s.wait(time.Hour)
	for _, l := range s.Key.Stores {
		s.do(Op{Kind: Read, Where: l, Number: "1", Fingerprint: oldValue})
	}
	for range answers {
		s.do(Op{Kind: Probe, Fingerprint: oldValue, Accepted: true})
	}
	for _, l := range s.Key.Stores {
		s.save(l, func(r *store.Record) {
			r.Duties = append(copied(*r).Duties, store.Duty{KeyID: newKey, Fingerprint: newValue, Rotation: thisRotation})
		})
	}
	for _, l := range s.Key.Stores {
		s.promote(l, *s.state[l].Previous)
	}
	s.wait(time.Duration(s.Key.Policy.Grace))
	s.takeAway(Disable, newKey, newValue)
	s.wait(time.Duration(s.Key.Policy.Soak))
	s.takeAway(Delete, newKey, newValue)
	for _, l := range s.Key.Stores {
		s.save(l, func(r *store.Record) { r.Previous, r.Duties, r.Claim = nil, nil, nil })
	}
	s.look(provider.Key{ID: oldKey})
	s.Result = rotation.Result{Phase: rotation.RolledBack}
	return s
}

// edit changes the last operation of a kind.
func (s *story) edit(k Kind, change func(*Op)) *story {
	for i := len(s.History) - 1; i >= 0; i-- {
		if s.History[i].Kind == k {
			change(&s.History[i])
			return s
		}
	}
	panic("no such operation")
}

func TestEachRuleSpeaksOfAHistoryThatBreaksIt(t *testing.T) {
	for sentence, tc := range map[string]struct {
		story *story
		want  string
	}{
		"an application that reads afresh is refused": {
			good().edit(Use, func(op *Op) { op.By, op.Accepted = "an application", false }), "I1: refused, although it is what the store publishes"},
		"an application gets no answer": {
			good().edit(Use, func(op *Op) { op.By, op.Accepted, op.Problem = "an application", false, "no answer: EOF" }), "I1: no answer: EOF"},
		"an application that keeps a copy is refused in grace": {told("refused copy"), "I2: refused, although it was read 1h0m0s ago"},
		"the new key is published unverified":                  {told("not verified"), "I2: published before it was read back from one"},
		"the new key is verified in one of two stores":         {told("verified in one store"), "I2: published before it was read back from two"},
		"the new key is published after a refusal":             {told("refused by one answer"), "I2: published after the provider had accepted it 1 times in a row"},
		"nobody writes down what is to be revoked":             {told("no duties"), "I3: published before aaaaaaaaaaaa is written down in one"},
		"one store is published":                               {told("one store"), "I8: taken away while the stores disagree"},
		"the old key is taken away before grace is over":       {told("early"), "I2: taken away 24h0m0s after all stores published another one; grace is 2d"},
		"the old key is deleted at once":                       {told("deleted at once"), "I2: deleted without having been disabled first"},
		"the old key is deleted without a soak":                {told("no soak"), "I2: deleted 0s after it was disabled; soak is 1h"},
		"the new key is taken away":                            {told("the new key"), "I1: taken away while applications read it in one"},
		"the record names another value":                       {told("another value"), "I4: a record names it with the value bbbbbbbbbbbb, and its value is aaaaaaaaaaaa"},
		"a request is made before it is written down":          {told("not written down"), "I3: taken away before that was written down"},
		"somebody's key is taken away":                         {told("somebody's key"), "I4: taken away, but rekey did not make it"},
		"a key is left that no record knows":                   {left(provider.Key{ID: "key-lost", Stamp: stampOf(2)}), "I3: the key key-lost is left, and no record knows it"},
		"a key is left that a record still names": {goodUntil(func(s *story) {
			s.save(first, func(r *store.Record) { r.Previous = &store.Version{Number: "1", KeyID: oldKey, Fingerprint: oldValue} })
			s.look(mintedKey, provider.Key{ID: oldKey})
		}), "I3: the key key-old is left, and no application reads it"},
		"the old key is enabled before it is deleted": {told("enabled"), "I2: deleted without having been disabled first"},
		"the current key is disabled in the end":      {goodUntil(func(s *story) { s.look(provider.Key{ID: newKey, Disabled: true}) }), "I1: the key key-new is disabled"},
		"the current key is not listed":               {goodUntil(func(s *story) { s.look() }), "I1: the key key-new is not listed"},
		"the old value is accepted in the end": {
			left(provider.Key{ID: oldKey}), "I3: aaaaaaaaaaaa is still accepted, which no application reads"},
		"a version is left pending": {goodUntil(func(s *story) {
			s.save(second, func(r *store.Record) { r.Pending = &store.Version{Number: "9", Fingerprint: "cccccccccccc"} })
			s.look(mintedKey)
		}), "I3: version 9 is left pending"},
		"a claim is left": {goodUntil(func(s *story) {
			s.save(first, func(r *store.Record) { r.Claim = &store.Claim{Install: install, Rotation: thisRotation} })
			s.look(mintedKey)
		}), "I3: the claim of rotation abcdefgh is left"},
		"a duty is left": {goodUntil(func(s *story) {
			s.save(first, func(r *store.Record) { r.Duties = []store.Duty{{KeyID: "key-older", Fingerprint: "dddddddddddd"}} })
			s.look(mintedKey)
		}), "I3: it is forgotten that key-older is to be revoked"},
		"a record names another value than applications read": {
			good().edit(Published, func(op *Op) { op.Fingerprint = oldValue }), "I8: the record does not name aaaaaaaaaaaa as current"},
		"the stores disagree in the end": {
			good().edit(Published, func(op *Op) { op.Fingerprint = oldValue }), "I8: the stores disagree in the end"},
		"what is completed has changed nothing":  {unchanged(rotation.Completed), "I7: it says that it is completed, and applications read aaaaaaaaaaaa as before"},
		"what is completed says another value":   {ends(rotation.Result{Phase: rotation.Completed, New: oldValue}), "I7: it says that applications read aaaaaaaaaaaa, and they read bbbbbbbbbbbb"},
		"what is rolled back reads the new key":  {ends(rotation.Result{Phase: rotation.RolledBack}), "I7: it says that it is rolled back, and applications read bbbbbbbbbbbb"},
		"another rotation comes in between":      {interrupted(), "I6: rotation abcdefgh takes the claim again"},
		"a key is minted without the claim":      {mints(func(s *story) { s.do(Op{Kind: Mint, Stamp: stampOf(1), KeyID: "key-2", Fingerprint: "cccccccccccc"}) }, nil), "I3: minted without the claim"},
		"a stamp is not the key's":               {mints(func(s *story) { s.do(Op{Kind: Mint, Stamp: "rekey-other", KeyID: "key-2"}) }, nil), "I4: minted under a stamp that is not this key's"},
		"a stamp is used twice":                  {mints(claimAndMint(1, OK, 0), claimAndMint(1, OK, 0)), "I3: a stamp is used twice"},
		"a mint follows one that may still come": {mints(claimAndMint(1, Unknown, 0), claimAndMint(2, OK, 0)), "I3: minted again although an earlier mint may still take effect"},
		"a key is published that may still go":   {publishedInDoubt(0), "I1: published although a request to disable it may still take effect"},
		"there are too many keys": {mints(func(s *story) {
			s.do(Op{Kind: List, Keys: []provider.Key{{ID: "1"}, {ID: "2"}, {ID: "3"}}})
		}, nil), "I3: 3 keys at once, want at most 2"},
	} {
		t.Run(sentence, func(t *testing.T) {
			found := strings.Join(Judge(tc.story.Case), "\n")
			if !strings.Contains(found, tc.want) {
				t.Errorf("want %q among:\n%s", tc.want, found)
			}
		})
	}
}

// goodUntil is a good rotation with another end.
func goodUntil(end func(*story)) *story {
	s := good()
	for i, op := range s.History {
		if op.By == theEnd {
			s.History = s.History[:i]
			break
		}
	}
	end(s)
	return s
}

func left(k provider.Key) *story {
	return goodUntil(func(s *story) { s.look(mintedKey, k) })
}

func ends(r rotation.Result) *story {
	s := good()
	s.Result = r
	return s
}

// unchanged is a rotation that has done nothing.
func unchanged(p rotation.Phase) *story {
	s := newStory()
	s.applications(oldValue, true)
	s.look(provider.Key{ID: oldKey})
	s.Result = rotation.Result{Phase: p}
	return s
}

func TestARotationThatRollsBackBeforeItPublishesHasNoFindings(t *testing.T) {
	for _, f := range Judge(unchanged(rotation.RolledBack).Case) {
		t.Error(f)
	}
}

func interrupted() *story {
	s := newStory()
	s.load(first, rekey)
	for _, r := range []string{thisRotation, "zzzzzzzz", thisRotation} {
		s.save(first, func(rec *store.Record) { rec.Claim = &store.Claim{Install: install, Rotation: r, Attempt: 1} })
	}
	return s
}

func mints(one, two func(*story)) *story {
	s := newStory()
	s.load(first, rekey)
	one(s)
	if two != nil {
		two(s)
	}
	return s
}

func claimAndMint(attempt int, o Outcome, after time.Duration) func(*story) {
	return func(s *story) {
		s.wait(after)
		s.save(first, func(r *store.Record) {
			r.Claim = &store.Claim{Install: install, Rotation: thisRotation, Attempt: attempt}
		})
		op := Op{Kind: Mint, Stamp: stampOf(attempt), Outcome: o}
		if o == OK {
			op.KeyID, op.Fingerprint = newKey, newValue
		}
		s.do(op)
	}
}

func TestAMintAfterTheHorizonOfALostOneIsRight(t *testing.T) {
	for _, f := range Judge(mints(claimAndMint(1, Unknown, 0), claimAndMint(2, OK, time.Minute)).Case) {
		if strings.HasPrefix(f, "I3: minted") {
			t.Error(f)
		}
	}
}

// publishedInDoubt goes back to a key while a request to disable it was not answered.
func publishedInDoubt(after time.Duration) *story {
	s := newStory()
	s.stage()
	s.verify(newValue, first, second)
	s.duties()
	s.publish(first, second)
	s.wait(time.Duration(s.Key.Policy.Grace))
	s.save(first, func(r *store.Record) {
		r.Revokes = []store.Revoke{{KeyID: oldKey, Fingerprint: oldValue, At: s.now}}
	})
	s.do(Op{Kind: Disable, KeyID: oldKey, Outcome: Unknown})
	s.wait(after)
	s.promote(first, *s.state[first].Previous)
	return s
}

func TestAKeyIsPublishedAfterTheHorizonOfARequestToTakeItAway(t *testing.T) {
	for _, f := range Judge(publishedInDoubt(time.Minute).Case) {
		if strings.HasPrefix(f, "I1") {
			t.Error(f)
		}
	}
}

func TestInAnEmergencyThereIsNoGrace(t *testing.T) {
	s := told("early")
	s.Reason = rotation.Emergency
	for _, f := range Judge(s.Case) {
		t.Error(f)
	}
	s = told("refused copy")
	s.Reason = rotation.Emergency
	for _, f := range Judge(s.Case) {
		t.Error(f)
	}
}

func TestAMintThatWasLostMayLeaveAThirdKeyForAWhile(t *testing.T) {
	for _, f := range Judge(mints(claimAndMint(1, Unknown, 0), func(s *story) {
		s.do(Op{Kind: List, Keys: []provider.Key{{ID: "1"}, {ID: "2"}, {ID: "3"}}})
	}).Case) {
		if strings.Contains(f, "keys at once") {
			t.Error(f)
		}
	}
}

func TestWhatHappensAgainAndAgainIsToldOnce(t *testing.T) {
	s := newStory()
	for range 3 {
		s.do(Op{Kind: Use, By: "an application", Fingerprint: oldValue})
	}
	if found := Judge(s.Case); len(found) != 1 {
		t.Errorf("got %q", found)
	}
}
