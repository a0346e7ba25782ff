package model

// Message is what somebody sends, as a signal or as an update. An update that does not fit is refused; a signal may be kept
// until its phase.
type Message struct {
	Input  Input
	Update bool
}

// hear takes a message at once, whatever the rotation is doing; false if it does not fit.
func (m Model) hear(s State, message Message) (State, bool) {
	if s.Closed() {
		return s, false
	}
	switch message.Input {
	case SayApprove:
		if s.Step != approval {
			return s, false
		}
		return m.approve(s), true
	case SayReject, SayRollBack:
		if message.Input == SayReject && s.Step != approval || !s.Commitment.name().CanRollBack() {
			return s, false
		}
		s.Request = true
	case SaySupplied:
		return supplied(s, !message.Update)
	case SayRevoked:
		switch {
		case s.Step == awaitRevocation || s.Step == awaitContainment:
			s.Fact = Claimed
		case !message.Update && s.shape().RevokeByHand && s.Began && s.Step.beforeRevocation():
			s.EarlyRevoked = true
		default:
			return s, false
		}
	case SayFinish:
		if s.Step != grace && s.Step != recheck {
			return s, false
		}
		if s.signs() {
			if s.Signatures = min(s.Signatures+1, 2); s.Signatures < 2 && !m.breaks(OneSignature) {
				return s, true
			}
		}
		s.GraceOver = true
	case SayExtend:
		if s.Step != grace && s.Step != recheck && s.Step != guard && !s.extendable() {
			return s, false
		}
		s.GraceOver, s.Released = false, false
		if s.Step == approval {
			s = s.withdraw(grace)
		} else {
			s.Signatures = 0 // whoever signed for a shorter one has not agreed to this
		}
	case EmergencyOld, EmergencyNew, EmergencyAll, EmergencyFirst, EmergencyOther:
		if message.Input == EmergencyNew && !(s.Live | s.Off | s.Killed).has(s.own()) {
			return s, false
		}
		return m.raise(s, message.Input)
	}
	return s, true
}

// extendable reports whether the question is one that more grace answers.
func (s State) extendable() bool {
	return s.Step == approval && s.Began && (s.After == guard || s.After == grace)
}

// beforeRevocation reports whether a step is one in which people may say too early that the old key is revoked.
func (s step) beforeRevocation() bool {
	switch s {
	case grace, recheck, guard, approval, disable, soak, remove:
		return true
	}
	return false
}

// withdraw takes the question back: it is moot, and the rotation goes on with a step.
func (s State) withdraw(next step) State {
	s.Fact, s.After = Answered, next
	return s
}

// signs reports whether approvals take two signatures.
func (s State) signs() bool { return s.shape().FourEyes && !s.Emergency }

// approve answers the question. Under four eyes it takes two.
func (m Model) approve(s State) State {
	if s.signs() {
		if s.Signatures = min(s.Signatures+1, 2); s.Signatures < 2 && !m.breaks(OneSignature) {
			return s
		}
		return m.signedYes(s)
	}
	return s.yes()
}

// yes is the answer to the question.
func (s State) yes() State {
	s.Approved, s.Fact, s.ByHand = s.Question, Answered, s.After == enable
	return s
}

// signedYes is the answer that two operators have signed.
func (m Model) signedYes(s State) State {
	if s.Question.releases() {
		s.Mandate, s.Void = s.outgoing(), false
	}
	return s.yes()
}

// releases reports whether a question is whether the old key may go.
func (q Question) releases() bool { return q >= ReleasePolicy && q <= ReleaseInUse }

// beyond reports whether a message leads to what the model has no names for: a third key of a person, a third rotation.
func (m Model) beyond(s State, in Input) bool {
	switch in {
	case SaySupplied:
		return s.shape().SupplyByHand && s.Step != awaitKey && (s.Olds | s.Leaked | s.Killed).has(s.own())
	case EmergencyOld, EmergencyFirst, EmergencyNew, EmergencyAll, EmergencyOther:
		if in == EmergencyNew && !(s.Live | s.Off | s.Killed).has(s.own()) {
			return true
		}
		names, vague, unknown, first := s.emergency(in)
		return s.Round == 2 && m.follows(s, names, first, vague || unknown)
	}
	return false
}

// supplied notes that a person made a key. It is taken in its phase, and kept before that.
func supplied(s State, keep bool) (State, bool) {
	k := s.fresh()
	before := s.Commitment == looking || (s.Commitment == staged || s.Commitment == forwardOnly) && s.New == NoKey
	switch {
	case !s.shape().SupplyByHand || Model{}.beyond(s, SaySupplied):
		return s, false
	case s.Step == awaitKey:
		s.Fact = Claimed
	case s.Step == adopt:
		s.Resupplied = true
	case keep && before:
		s.EarlySupply = true
	default:
		return s, false
	}
	if !s.Killed.has(k) {
		s.Live |= set(k)
	}
	s.Stores[0].Values |= set(k)
	return s, true
}

// emergency is what an emergency says: it names keys, or vaguely every value that was made before, or something that nobody
// knows; first: what leaked goes first.
func (s State) emergency(in Input) (names Keys, vague, unknown, first bool) {
	switch in {
	case EmergencyNew:
		return set(s.own()), false, false, false
	case EmergencyAll:
		return s.Live | s.Off, true, false, false
	case EmergencyOther:
		return 0, false, true, false
	}
	return set(Old), false, false, in == EmergencyFirst
}

// raise takes an emergency: into this rotation if it can serve it, otherwise another one follows.
func (m Model) raise(s State, in Input) (State, bool) {
	names, vague, unknown, first := s.emergency(in)
	s.Leaked |= names
	if !m.follows(s, names, first, vague || unknown) {
		s.Vague = s.Vague || vague
		return m.join(s, first), true
	}
	if s.Round == 2 {
		return s, false // the model knows of two rotations
	}
	s.Follow, s.FollowFirst, s.FollowVague = true, s.FollowFirst || first, s.FollowVague || vague
	return s, true
}

// follows reports whether an emergency needs a rotation of its own.
func (m Model) follows(s State, names Keys, first, other bool) bool {
	c := s.Commitment.name()
	switch {
	case s.Commitment == looking:
		return false
	case c.Backwards() && !m.breaks(JoinBackwards):
		return true
	case other || first && !s.Out:
		return true
	case m.breaks(IgnoreNewKey):
		return false
	}
	return names.has(s.New) || !s.Olds.all(names)
}

// join makes this rotation an emergency: no grace, no guard, and no way back to a key that leaked.
func (m Model) join(s State, first bool) State {
	s.Emergency, s.First = true, s.First || first // a rotation that follows may have to
	if !m.breaks(KeepRequest) {
		s.Request = false
	}
	if s.Commitment == looking {
		s.Stale = !m.breaks(OldEyes)
		return s
	}
	if s.Began {
		s.GraceOver = true
	}
	if s.Commitment == bothKeys && !m.breaks(StayBothKeys) {
		s.Commitment = forwardOnly
	}
	if !m.breaks(ReturnToLeaked) {
		s.Before = false
	}
	if s.Step == approval && s.Question.releases() {
		s = s.withdraw(guard)
	}
	if s.Step == approval && s.Question == NoWayBack {
		s = s.withdraw(verify)
	}
	return s
}
