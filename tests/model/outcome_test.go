package model

import (
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/lockstep"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

func id(k Key) string          { return "key-" + k.String() }
func fingerprint(k Key) string { return fmt.Sprintf("%012x", 0xabc000+int(k)) }

// ref names a key as an activity does.
func (w *walk) ref(k Key) activities.Ref {
	r := activities.Ref{KeyID: id(k), Fingerprint: fingerprint(k)}
	if w.s.minted().has(k) {
		r.Stamp = "stamp"
	}
	for _, i := range w.s.stores() {
		number := ""
		if w.s.Stores[i].Values.has(k) {
			number = fmt.Sprintf("%d0%d", i+1, k)
		}
		r.Numbers = append(r.Numbers, number)
	}
	return r
}

func (w *walk) refs(keys []Key) (all []activities.Ref) {
	for _, k := range keys {
		if k != NoKey {
			all = append(all, w.ref(k))
		}
	}
	return all
}

func names(keys Keys) (all []string) {
	for _, k := range keys.each() {
		all = append(all, id(k))
	}
	return all
}

// answer ends the activity in one of the ways in which it can end in the model's world.
func (w *walk) answer(s State, a lockstep.Activity) (State, string, error) {
	if a.CancelRequested && w.chance(60) {
		w.run.CancelActivity(a.ID)
		return w.cancel(s), "cancelled", nil
	}
	var may []Input
	for in := AnswerOK; in <= AnswerGone; in++ {
		if _, ok := w.m.Step(s, in); ok {
			switch in {
			case AnswerOK:
				may = append(may, in, in, in, in, in, in, in, in, in, in, in, in)
			case AnswerRefused, AnswerUnavailable:
				may = append(may, in)
			case AnswerNewRefused:
				may = append(may, in, in, in, in, in, in, in, in, in, in)
			default:
				may = append(may, in, in, in)
			}
		}
	}
	in := pick(w, may...)
	label := in.String()
	result, as, err := w.outcome(s, in)
	if as != in {
		label += ", not for good"
	}
	if in == AnswerRefused && s.Step == remove && w.unsettled {
		label += " (unsettled)"
	}
	next, ok := w.m.Step(s, as)
	if !ok {
		return s, label, fmt.Errorf("%q cannot happen in %v", as, s)
	}
	if as == AnswerOK && s.Step == prepare {
		result = w.prepared(next)
	}
	if w.unsettled {
		next.DeleteOpen = next.DeleteOpen || s.Step == remove
		w.unsettled = false
	}
	if err != nil {
		w.run.FailActivity(a.ID, err)
		return next, label + fmt.Sprintf(" [%v]", err), nil
	}
	w.run.CompleteActivity(a.ID, result)
	return next, label, nil
}

// cancel ends an activity of which nobody knows what it did.
func (w *walk) cancel(s State) State {
	next, _ := w.m.answer(s, AnswerUnavailable)
	return next
}

func fail(class fault.Class, f activities.Failure) error {
	return temporal.NewNonRetryableApplicationError("it did not work", string(class), nil, f)
}

// outcome is what the activity returns, and what it is in the model: an answer that waiting may cure is none yet.
func (w *walk) outcome(s State, in Input) (result any, as Input, err error) {
	now := w.now()
	w.unsettled = false
	switch in {
	case AnswerUnavailable:
		return w.unavailable(s)
	case AnswerRefused:
		class := pick(w, fault.Rejected, fault.Internal, fault.NotFound)
		if s.Step == contain && class == fault.NotFound {
			class = fault.Rejected
		}
		if s.Step == recheck {
			return w.unhealthy(s, in)
		}
		w.unsettled = s.Step == remove && w.chance(20)
		return nil, in, fail(class, activities.Failure{Code: "refused", Retried: s.Retried, Unsettled: w.unsettled})
	case AnswerUnsigned:
		return nil, in, fail(fault.Rejected, activities.Failure{Code: activities.FourEyes, Retried: s.Retried})
	}
	switch s.Step {
	case conflicts:
		return map[Input]string{AnswerConflict: "other"}[in], in, nil
	case prepare:
		p := w.prepared(s)
		p.Question = &rotation.Ask{Kind: activities.ForeignClaim, About: []string{"it"}, Text: "May I?"}
		p.Verdict.Work = rotation.Rotate
		return p, in, nil
	case contain:
		if w.chance(20) {
			return nil, in, fail(fault.NotFound, activities.Failure{Code: "gone"})
		}
		return activities.Revoked{}, in, nil
	case create:
		if in == AnswerAsked {
			return activities.Created{Question: &rotation.Ask{Kind: activities.UnprovenKeys, About: []string{"it"}, Text: "Whose?"}}, in, nil
		}
		r := w.ref(s.own())
		return activities.Created{New: &r}, in, nil
	case adopt:
		switch in {
		case AnswerAsked:
			return activities.Adopted{Question: &rotation.Ask{Kind: activities.ForeignClaim, About: []string{"it"}, Text: "May I?"}}, in, nil
		case AnswerUnusable:
			return activities.Adopted{Unusable: "It is no key.", Stays: pick(w, "", "7")}, in, nil
		}
		r := w.ref(adoptable(s))
		return activities.Adopted{New: &r}, in, nil
	case store:
		return w.ref(s.incoming()), in, nil
	case verify:
		switch in {
		case AnswerOK:
			return activities.Verified{OK: true}, in, nil
		case AnswerUnusable:
			return activities.Verified{Final: true, Why: "It is another value."}, in, nil
		}
		if waited := w.time.waiting; waited {
			w.time.waiting, w.time.polled = false, false
			if s.Commitment == reversing && w.m.tryAgain(s) {
				return activities.Verified{Why: "It is refused."}, in, nil
			}
		}
		if !w.patient(w.propagation) {
			return activities.Verified{Why: "It is refused."}, in, nil
		}
		return activities.Verified{Why: "It is refused."}, AnswerUnavailable, nil
	case promote:
		if in == AnswerAsked {
			return activities.Promoted{To: w.ref(s.incoming()), Question: &rotation.Ask{Kind: activities.ChangedCurrent, About: []string{"it"}, Text: "That too?"}}, in, nil
		}
		return activities.Promoted{To: w.ref(s.incoming())}, in, nil
	case recheck:
		w.time.eyes.looked = true
		if in == AnswerOK {
			changed := w.chance(15)
			if !changed {
				w.time.refusals, w.time.recheck = 0, min(2*w.time.recheck, 6*time.Hour)
			}
			w.time.nextCheck = now.Add(w.time.recheck)
			return activities.Health{New: true, Current: !changed}, in, nil
		}
		return w.unhealthy(s, in)
	case guard:
		return w.use(s, in)
	case disable:
		return activities.Revoked{Gone: names(s.outgoing() &^ (s.Live | s.Off))}, in, nil
	case remove:
		return activities.Revoked{}, in, nil
	case confirm:
		return w.confirmed(s, in)
	case retire:
		return activities.Retired{}, in, nil
	case enable:
		if in == AnswerGone {
			return activities.Revoked{Gone: []string{id(s.Back)}}, in, nil
		}
		return activities.Revoked{}, in, nil
	case discard:
		if in == AnswerPublished {
			r := w.ref(s.own())
			return activities.Discarded{Published: &r}, in, nil
		}
		return activities.Discarded{}, in, nil
	}
	return nil, in, errors.New("no activity")
}

// patient reports whether a refusal is no answer yet, and notes that the step is done again.
func (w *walk) patient(d time.Duration) bool {
	if !w.time.polled {
		w.time.expected = w.now().Add(d)
	}
	again := w.now().Before(w.time.expected)
	w.time.polled = w.time.polled || again
	return again
}

// unavailable are the ways in which an activity brings nothing that can be decided on.
func (w *walk) unavailable(s State) (any, Input, error) {
	if s.Step == recheck {
		w.time.eyes.looked = false
		w.time.nextCheck = w.now().Add(w.time.recheck)
		return nil, AnswerUnavailable, fail(pick(w, fault.Unavailable, fault.Rejected, fault.AccessDenied), activities.Failure{})
	}
	wait := rotation.Duration(2 * time.Minute)
	if w.chance(30) {
		switch s.Step {
		case prepare:
			p := w.prepared(s)
			p.Wait = wait
			return p, AnswerUnavailable, nil
		case verify:
			w.time.waiting = true
			return activities.Verified{Wait: wait}, AnswerUnavailable, nil
		case create:
			return activities.Created{Wait: wait}, AnswerUnavailable, nil
		case promote:
			return activities.Promoted{To: w.ref(s.incoming()), Lagging: []string{"first"}}, AnswerUnavailable, nil
		case retire:
			return activities.Retired{SweepIn: wait}, AnswerUnavailable, nil
		case discard:
			return activities.Discarded{Retired: activities.Retired{SweepIn: wait}}, AnswerUnavailable, nil
		}
	}
	switch {
	case w.chance(20):
		return nil, AnswerUnavailable, temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)
	case w.chance(20) && s.Step != verify && s.Step != confirm:
		return nil, AnswerUnavailable, fail(fault.Throttled, activities.Failure{RetryAfter: wait})
	}
	return nil, AnswerUnavailable, fail(pick(w, fault.Unavailable, fault.Throttled, fault.AccessDenied), activities.Failure{Unsettled: w.chance(50)})
}

// unhealthy is a look at a key that is refused: the third one in a row counts.
func (w *walk) unhealthy(s State, in Input) (any, Input, error) {
	c := &w.time
	c.refusals++
	c.eyes.looked = true
	c.recheck = min(c.recheck, time.Minute)
	c.nextCheck = w.now().Add(c.recheck)
	out := activities.Health{Current: true, Old: in == AnswerOldWorks}
	if c.refusals < 3 && !(s.Commitment == reversing && w.m.tryAgain(s)) {
		return out, AnswerUnavailable, nil
	}
	if !(s.Commitment == reversing && w.m.tryAgain(s)) {
		c.refusals = 0
	}
	return out, in, nil
}

// use is what the provider knows of the use of the outgoing keys.
func (w *walk) use(s State, in Input) (any, Input, error) {
	if in == AnswerUseUnknown && w.chance(30) {
		return nil, in, fail(fault.Rejected, activities.Failure{})
	}
	var all []rotation.UsageReport
	for range s.outgoing().each() {
		one := rotation.UsageReport{Known: in != AnswerUseUnknown, AskedAt: w.now()}
		if in == AnswerInUse || in == AnswerAsked {
			one.LastUsed, one.Freshness = w.now().Add(time.Millisecond), rotation.Duration(time.Hour)
		}
		all = append(all, one)
	}
	if in == AnswerInUse || in == AnswerAsked {
		in = AnswerAsked
		if w.time.graceUntil.Before(w.time.cap()) {
			in = AnswerInUse
		}
	}
	return all, in, nil
}

// confirmed is what a look at the outgoing keys brings.
func (w *walk) confirmed(s State, in Input) (any, Input, error) {
	out := activities.Confirmed{NewRefused: !s.Live.has(s.incoming())}
	switch in {
	case AnswerOK:
		if w.chance(20) {
			out.Unproven = names(s.outgoing())
		}
	case AnswerNewRefused:
		out.Accepted = names(s.outgoing() & s.Live)
	case AnswerAccepted:
		out.Accepted = names(s.outgoing() & s.Live)
		if out.NewRefused && s.Approved != NewRefusedNow {
			return out, AnswerNewRefused, nil
		}
		if w.patient(lag + 10*time.Second) {
			return out, AnswerUnavailable, nil
		}
	}
	return out, in, nil
}

// prepared is what prepare has found.
func (w *walk) prepared(s State) activities.Prepared {
	sh := s.shape()
	p := activities.Prepared{
		Verdict: rotation.Verdict{Work: rotation.Rotate, Rule: "walk", Message: "The walk says so."}, Old: w.refs(s.olds()),
		OldRefused: s.Back != NoKey && !s.Works, SupplyByHand: sh.SupplyByHand, RevokeByHand: sh.RevokeByHand, CanDisable: sh.Disable,
		Propagation: rotation.Duration(w.propagation), RevocationLag: rotation.Duration(lag), Horizon: rotation.Duration(horizon),
	}
	if sh.FourEyes {
		p.Signers = signers()
	}
	switch s.Fact {
	case NotDue:
		p.Verdict.Work = rotation.Nothing
	case OnlyFinish:
		r := w.ref(s.New)
		p.Verdict.Work, p.New, p.OldRefused = rotation.Finish, &r, false
	case Another:
		p.StartAnew = true
	}
	if s.nothingKnown() {
		p.NothingKnown, p.Unknown = true, []string{"It is not known."}
	}
	return p
}

// adoptable is the key that adopt stages.
func adoptable(s State) Key {
	if s.currents().has(s.own()) {
		return s.own()
	}
	return s.Stores[0].Pending
}
