package rotation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func complete() DecisionMessage {
	return DecisionMessage{By: "ops@example.com", Why: "because", For: Duration(time.Hour)}
}

// inPhase is a rotation that could still roll back in a phase, but for the one that does.
func inPhase(p Phase) DecisionContext {
	at := map[Phase]State{
		Prepare: {StepPrepare, Looking}, Create: {StepCreate, Staged}, AwaitingKey: {StepAwaitKey, Staged}, Store: {StepStore, Staged}, Verify: {StepVerify, Staged},
		Promote: {StepPromote, BothKeys}, Grace: {StepGrace, BothKeys}, Guard: {StepGuard, BothKeys}, AwaitingApproval: {StepApproval, BothKeys},
		Revoke: {StepDisable, BothKeys}, AwaitingRevocation: {StepAwaitRevocation, BothKeys}, Confirm: {StepConfirm, BothKeys}, Retire: {StepRetire, ForwardOnly},
		Completed: {StepCompleted, ForwardOnly}, RollingBack: {StepDiscard, Discarding}, RolledBack: {StepRolledBack, Discarding},
	}
	s := DecisionContext{State: at[p], Extendable: true, Now: clock, GraceUntil: clock.Add(time.Hour), GraceCap: clock.Add(7 * day)}
	if p.Waiting() {
		s.Deadline, s.WaitCap = clock.Add(time.Hour), clock.Add(4*day)
	}
	return s
}

// refusal returns the text of the *Refusal that err must be.
func refusal(t *testing.T, err error) string {
	t.Helper()
	var r *RejectedDecision
	if !errors.As(err, &r) || r.Message == "" {
		t.Fatalf("want a refusal, got %v", err)
	}
	return r.Message
}

func TestEachDecisionFitsCertainPhasesOnly(t *testing.T) {
	var open, back []Phase
	for _, p := range Phases() {
		if p != Completed && p != RolledBack {
			open = append(open, p)
		}
		if inPhase(p).Commitment.CanRollBack() {
			back = append(back, p)
		}
	}
	fits := map[DecisionKind][]Phase{
		Approve:     {AwaitingApproval},
		Reject:      {AwaitingApproval},
		KeySupplied: {AwaitingKey},
		KeyRevoked:  {AwaitingRevocation},
		ExtendGrace: {Grace, Guard, AwaitingApproval},
		FinishGrace: {Grace},
		RollBack:    back,
		// Also in one that is ending: another rotation follows.
		RaiseEmergency: Phases(),
		ExtendDeadline: {AwaitingKey, AwaitingApproval, AwaitingRevocation},
		AddNote:        open,
	}
	for _, p := range Phases() {
		s := inPhase(p)
		var want []DecisionKind
		for _, k := range DecisionKinds() {
			t.Run(fmt.Sprintf("%s in %s", k, p), func(t *testing.T) {
				err := s.Check(k, complete())
				if slices.Contains(fits[k], p) {
					if err != nil {
						t.Errorf("refused: %v", err)
					}
					return
				}
				if text := refusal(t, err); !p.Closed() && k != RollBack && !strings.Contains(text, string(p)) {
					t.Errorf("the refusal does not say where the rotation is: %q", text)
				}
			})
			if slices.Contains(fits[k], p) {
				want = append(want, k)
			}
		}
		if got := s.Accepts(); !slices.Equal(got, want) {
			t.Errorf("in %s it offers %v, want %v", p, got, want)
		}
	}
	text := refusal(t, inPhase(Grace).Check("shutdown", complete()))
	if !strings.Contains(text, "shutdown") {
		t.Errorf("an unknown decision is refused with %q", text)
	}
}

func TestARotationInReverseIsJudgedByItsStep(t *testing.T) {
	s := DecisionContext{State: State{StepGrace, Reversing}, Now: clock, GraceUntil: clock.Add(time.Hour), GraceCap: clock.Add(day)}
	if got, want := s.Accepts(), []DecisionKind{ExtendGrace, FinishGrace, RaiseEmergency, AddNote}; !slices.Equal(got, want) {
		t.Errorf("it offers %v, want %v", got, want)
	}
	if text := refusal(t, s.Check(RollBack, complete())); !strings.Contains(text, "rolling back already") {
		t.Errorf("roll-back is refused with %q", text)
	}
	text := refusal(t, s.Check(Approve, complete()))
	if !strings.Contains(text, string(RollingBack)) || !strings.Contains(text, string(Grace)) {
		t.Errorf("the refusal does not say where the rotation is: %q", text)
	}
}

func TestAfterAStepThatCannotBeUndoneThereIsNoRollBack(t *testing.T) {
	for _, p := range []Phase{Promote, Grace, Guard, Revoke, AwaitingRevocation, Confirm, Retire} {
		s := inPhase(p)
		s.Commitment = ForwardOnly
		refusal(t, s.Check(RollBack, complete()))
		if slices.Contains(s.Accepts(), RollBack) {
			t.Errorf("in %s a roll-back is offered that would be refused", p)
		}
	}
}

func TestADecisionSaysWhoAndSomeSayWhy(t *testing.T) {
	at := map[DecisionKind]Phase{
		Approve: AwaitingApproval, Reject: AwaitingApproval, KeySupplied: AwaitingKey, KeyRevoked: AwaitingRevocation,
		ExtendGrace: Grace, FinishGrace: Grace, RollBack: Grace, RaiseEmergency: Grace,
		ExtendDeadline: AwaitingKey, AddNote: Grace,
	}
	needsWhy := []DecisionKind{Reject, RollBack, ExtendGrace, FinishGrace, RaiseEmergency, ExtendDeadline, AddNote}
	for _, k := range DecisionKinds() {
		nobody := complete()
		nobody.By = ""
		if text := refusal(t, inPhase(at[k]).Check(k, nobody)); !strings.Contains(text, `"by"`) {
			t.Errorf("%s by nobody: %q does not show what to send", k, text)
		}
		silent := complete()
		silent.Why = ""
		err := inPhase(at[k]).Check(k, silent)
		if slices.Contains(needsWhy, k) {
			if text := refusal(t, err); !strings.Contains(text, `"why"`) {
				t.Errorf("%s without a reason: %q does not show what to send", k, text)
			}
		} else if err != nil {
			t.Errorf("%s needs no reason: %v", k, err)
		}
	}
}

func TestGraceIsExtendedUpToItsCap(t *testing.T) {
	for sentence, c := range map[string]struct {
		until, limit time.Duration // from now; a limit of 0 is none
		by           time.Duration
		want         time.Duration
		refused      bool
	}{
		"from its end":                           {until: time.Hour, limit: 24 * time.Hour, by: 2 * time.Hour, want: 3 * time.Hour},
		"from now, if its end has passed":        {until: -time.Hour, limit: 24 * time.Hour, by: 2 * time.Hour, want: 2 * time.Hour},
		"not past the cap":                       {until: time.Hour, limit: 2 * time.Hour, by: 12 * time.Hour, want: 2 * time.Hour},
		"freely, where there is no cap":          {until: time.Hour, by: 1000 * time.Hour, want: 1001 * time.Hour},
		"not at all, if its end is the cap":      {until: 2 * time.Hour, limit: 2 * time.Hour, by: time.Hour, want: 2 * time.Hour, refused: true},
		"not at all, if its end is past the cap": {until: 3 * time.Hour, limit: 2 * time.Hour, by: time.Hour, want: 2 * time.Hour, refused: true},
		"not at all, if the cap is over":         {until: -2 * time.Hour, limit: -time.Hour, by: 2 * time.Hour, want: -time.Hour, refused: true},
		"not by nothing":                         {until: time.Hour, limit: 24 * time.Hour, want: time.Hour, refused: true},
		"not backwards":                          {until: 3 * time.Hour, limit: 24 * time.Hour, by: -time.Hour, want: 2 * time.Hour, refused: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := DecisionContext{State: State{StepGrace, BothKeys}, Now: clock, GraceUntil: clock.Add(c.until)}
			if c.limit != 0 {
				s.GraceCap = clock.Add(c.limit)
			}
			m := complete()
			m.For = Duration(c.by)
			if err := s.Check(ExtendGrace, m); (err != nil) != c.refused {
				t.Errorf("Check: %v", err)
			}
			if got := s.Extended(m.For); !got.Equal(clock.Add(c.want)) {
				t.Errorf("extended to now%+v, want now%+v", got.Sub(clock), c.want)
			}
		})
	}
}

func TestAWaitIsExtendedUpToItsCap(t *testing.T) {
	for sentence, c := range map[string]struct {
		until, limit, by, want time.Duration // from now
		refused                bool
	}{
		"from its deadline":                       {until: time.Hour, limit: 24 * time.Hour, by: 2 * time.Hour, want: 3 * time.Hour},
		"from now, if it is overdue":              {until: -time.Hour, limit: 24 * time.Hour, by: 2 * time.Hour, want: 2 * time.Hour},
		"not past the cap":                        {until: time.Hour, limit: 2 * time.Hour, by: 12 * time.Hour, want: 2 * time.Hour},
		"not at all, if its deadline is the cap":  {until: 2 * time.Hour, limit: 2 * time.Hour, by: time.Hour, want: 2 * time.Hour, refused: true},
		"not at all, if the cap is over":          {until: -2 * time.Hour, limit: -time.Hour, by: 2 * time.Hour, want: -time.Hour, refused: true},
		"not by nothing":                          {until: time.Hour, limit: 24 * time.Hour, want: time.Hour, refused: true},
		"not backwards":                           {until: 3 * time.Hour, limit: 24 * time.Hour, by: -time.Hour, want: 2 * time.Hour, refused: true},
		"also a step that does not get on, by it": {until: time.Hour, limit: 24 * time.Hour, by: time.Hour, want: 2 * time.Hour},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := DecisionContext{State: State{StepPromote, BothKeys}, Now: clock, Deadline: clock.Add(c.until), WaitCap: clock.Add(c.limit)}
			m := complete()
			m.For = Duration(c.by)
			if err := s.Check(ExtendDeadline, m); (err != nil) != c.refused {
				t.Errorf("Check: %v", err)
			}
			if got := s.ExtendedDeadline(m.For); !got.Equal(clock.Add(c.want)) {
				t.Errorf("extended to now%+v, want now%+v", got.Sub(clock), c.want)
			}
		})
	}
}

func TestANoteThatIsTooLongForThePageIsRefused(t *testing.T) {
	m := complete()
	m.Why = strings.Repeat("so ", MaxNote/3)
	if err := inPhase(AwaitingKey).Check(AddNote, m); err != nil {
		t.Errorf("%d bytes: %v", len(m.Why), err)
	}
	m.Why += "and so on"
	if text := refusal(t, inPhase(AwaitingKey).Check(AddNote, m)); !strings.Contains(text, "500") {
		t.Errorf("the refusal does not say how long a note may be: %q", text)
	}
}

func TestAMessageThatHoldsAKeyIsRefusedWhereverItStands(t *testing.T) {
	for what, text := range map[string]string{
		"an OpenAI key":                 "sk-proj-abcdefghijklmnop1234",
		"an AWS access key id":          "AKIAIOSFODNN7EXAMPLE",
		"a Google API key":              "AIzaSyA-1234567890abcdefghijklmnop",
		"a PEM file":                    "-----BEGIN PRIVATE KEY-----",
		"a service account's file":      `{"private_key": "x"}`,
		"forty-eight base64 characters": strings.Repeat("aB3x", 12),
	} {
		for field, m := range map[string]DecisionMessage{
			"id":      {ID: text, By: "me", Why: "because"},
			"by":      {By: "it is " + text, Why: "because"},
			"why":     {By: "me", Why: "the new key is " + text + ", enjoy"},
			"version": {By: "me", Why: "because", Version: text},
		} {
			t.Run(what+" in "+field, func(t *testing.T) {
				// Also where the decision would be refused anyway: the key is in the history by then.
				for _, p := range []Phase{AwaitingKey, Completed} {
					said := refusal(t, inPhase(p).Check(KeySupplied, m))
					if strings.Contains(said, text) {
						t.Error("the refusal repeats the key")
					}
					if !strings.Contains(said, fmt.Sprintf("%q", field)) || !strings.Contains(said, "leaked") {
						t.Errorf("in %s the refusal does not say what happened: %q", p, said)
					}
				}
			})
		}
	}
}

func TestAMessageWithTextThatTurnsAroundOrHidesIsRefused(t *testing.T) {
	for field, m := range map[string]DecisionMessage{
		"id": {ID: "7\x07", By: "me"}, "by": {By: "ecila\u202e"}, "why": {By: "me", Why: "fine\x1b[2K"}, "version": {By: "me", Version: "7\u200b"}, "leaked": {By: "me", Leaked: []string{"7\n8"}},
	} {
		if text := refusal(t, inPhase(AwaitingKey).Check(KeySupplied, m)); !strings.Contains(text, fmt.Sprintf("%q", field)) || strings.ContainsAny(text, "\u202e\x1b\x07\u200b\n") {
			t.Errorf("%s: %q", field, text)
		}
	}
	if err := inPhase(AwaitingKey).Check(KeySupplied, DecisionMessage{By: "Zoë 👩\u200d💻", Why: "two\nlines\tof it"}); err != nil {
		t.Error(err)
	}
}

func TestOrdinaryTextIsNotTakenForAKey(t *testing.T) {
	for _, text := range []string{
		"ops@example.com", "I have looked at the dashboards; nobody uses it any more.", "p12", "42",
		"0193f6a0-7c5e-7d3a-9a57-0c4d1f2e3b4a", "task-force meeting", "rotate/openai-prod", "3fa1b2c3d4e5",
		// The id of a Google key names a key without showing it.
		"5d41402abc4b2a76b9719d911017c592aaaabbbb",
	} {
		m := DecisionMessage{ID: text, By: text, Why: text, Version: text}
		if err := inPhase(AwaitingKey).Check(KeySupplied, m); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzNoMessageMakesTheCheckPanicOrRepeatAKey(f *testing.F) {
	f.Add("approve", "1", "me", "because", "7", int64(time.Hour))
	f.Add("key-supplied", "", "sk-proj-abcdefghijklmnop1234", "", "", int64(0))
	f.Add("extend-grace", "", "me", "%s%!d", "", int64(-1))
	f.Fuzz(func(t *testing.T, kind, id, by, why, version string, length int64) {
		m := DecisionMessage{ID: id, By: by, Why: why, Version: version, For: Duration(length)}
		for _, p := range Phases() {
			s := inPhase(p)
			err := s.Check(DecisionKind(kind), m)
			s.Extended(m.For)
			for _, text := range []string{id, by, why, version} {
				if key := firstKey(text); key != "" && (err == nil || strings.Contains(err.Error(), key)) {
					t.Errorf("%q looks like a key, and the answer is: %v", key, err)
				}
			}
		}
	})
}

func TestAnAnswerToAQuestionThatIsNoLongerOpenIsRefused(t *testing.T) {
	s := inPhase(AwaitingApproval)
	s.Question = "key-in-use-2"
	for _, k := range []DecisionKind{Approve, Reject} {
		for question, taken := range map[string]bool{"": true, "key-in-use-2": true, "key-in-use-1": false, "use-unknown-2": false} {
			m := complete()
			m.Question = question
			err := s.Check(k, m)
			if taken && err != nil {
				t.Errorf("%s of %q: %v", k, question, err)
			}
			if !taken && !strings.Contains(refusal(t, err), "asked now is key-in-use-2") {
				t.Errorf("%s of %q: %v", k, question, err)
			}
		}
	}
}

func TestAnApprovalReachesNoFurtherThanWhatItWasAskedAbout(t *testing.T) {
	granted := []Ask{{Kind: "unproven-keys", About: []string{"key1", "key2"}, Text: "as it was asked"}}
	for sentence, c := range map[string]struct {
		ask  Ask
		want bool
	}{
		"the same question in other words":        {Ask{Kind: "unproven-keys", About: []string{"key2", "key1"}, Text: "as it is asked now"}, true},
		"a question about less":                   {Ask{Kind: "unproven-keys", About: []string{"key2"}}, true},
		"a question about more":                   {Ask{Kind: "unproven-keys", About: []string{"key1", "key2", "key3"}}, false},
		"a question of another kind":              {Ask{Kind: "changed-current", About: []string{"key1"}}, false},
		"a question of another kind, about no id": {Ask{Kind: "foreign-claim"}, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := c.ask.In(granted); got != c.want {
				t.Errorf("granted: %t, want %t", got, c.want)
			}
		})
	}
}

func TestWhatAMessageMayHold(t *testing.T) {
	long := func(n int) string { return strings.Repeat("ab ", n/3+1)[:n] }
	for sentence, c := range map[string]struct {
		m       DecisionMessage
		tooLong bool
	}{
		"a name of the longest kind":                  {DecisionMessage{By: long(MaxField)}, false},
		"a longer one":                                {DecisionMessage{By: long(MaxField + 1)}, true},
		"any reason, for it is cut":                   {DecisionMessage{Why: long(10 * MaxWhy)}, false},
		"no longer one where it is signed":            {DecisionMessage{Why: long(MaxWhy + 1), Signature: "x"}, true},
		"as many leaked values as may be named":       {DecisionMessage{Leaked: slices.Repeat([]string{"0123456789ab"}, MaxLeaked)}, false},
		"one more":                                    {DecisionMessage{Leaked: slices.Repeat([]string{"1"}, MaxLeaked+1)}, true},
		"few leaked values of more text than is kept": {DecisionMessage{Leaked: slices.Repeat([]string{long(60 * MaxLeaked / 4)}, 4)}, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			if why := c.m.TooLong(); (why != "") != c.tooLong {
				t.Errorf("%q", why)
			}
		})
	}
	t.Run("a reason is cut, and one that is signed is not", func(t *testing.T) {
		m := DecisionMessage{Why: long(MaxWhy + 1)}
		if got := m.Bounded().Why; len(got) > MaxWhy || !strings.HasSuffix(got, "…") {
			t.Errorf("%d bytes are kept", len(got))
		}
		m.Signature = "x"
		if got := m.Bounded().Why; got != m.Why {
			t.Errorf("%d of %d bytes are kept, and the signature counts for all", len(got), len(m.Why))
		}
	})
}
