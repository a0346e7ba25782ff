package model

// hear takes a message at once, whatever the rotation is doing; false if it does not fit.
func (m Model) hear(s State, in Input) (State, bool) {
	if s.Closed() {
		return s, false
	}
	switch in {
	case SayApprove:
		if s.Step != approval || s.Fact != Nothing {
			return s, false
		}
		return m.approve(s), true
	case SayReject, SayRollBack:
		if in == SayReject && s.Step != approval || !s.Commitment.name().CanRollBack() || s.Request {
			return s, false
		}
		s.Request = true
	case SaySupplied:
		if s.shape().SupplyByHand && s.New == NoKey {
			return supplied(s)
		}
		return s, false
	case SayRevoked:
		switch {
		case s.Fact != Nothing:
			return s, false
		case s.Step == awaitRevocation || s.Step == awaitContainment:
			s.Fact = Claimed
		case s.shape().RevokeByHand && (s.Commitment == bothKeys || s.Commitment == forwardOnly) && s.Step >= grace && s.Step <= approval:
			s.EarlyRevoked = true
		default:
			return s, false
		}
	case SayFinish:
		if s.Step != grace && s.Step != recheck || s.GraceOver {
			return s, false
		}
		s.GraceOver = true
	case SayExtend:
		asked := s.Step == approval && s.Fact == Nothing && (s.Question == ReleaseOld || s.Question == KeysRefused && s.After == grace)
		if s.Step != grace && s.Step != recheck && s.Step != guard && !asked || s.Emergency {
			return s, false
		}
		s.GraceOver, s.Released, s.Allowed, s.Mandate = false, false, false, 0
		if asked {
			s.Fact = Extended
		}
	case EmergencyOld:
		return m.raise(s, set(Old), false, false)
	case EmergencyFirst:
		return m.raise(s, set(Old), true, false)
	case EmergencyNew:
		if !(s.Live | s.Off | s.Killed).has(s.own()) {
			return s, false
		}
		return m.raise(s, set(s.own()), false, false)
	case EmergencyAll:
		return m.raise(s, s.Live|s.Off, false, true)
	case EmergencyOther:
		return m.raise(s, 0, false, true)
	}
	return s, true
}

// approve answers the question. Under four eyes it takes two to let a key go.
func (m Model) approve(s State) State {
	if s.shape().FourEyes && s.Question == ReleaseOld && !s.Emergency {
		if s.Signatures++; s.Signatures < 2 && !m.breaks(OneSignature) {
			return s
		}
		s.Mandate = s.outgoing()
	}
	s.Fact = Approved
	return s
}

// supplied notes that a person made a key. It is taken in its phase, and kept before that.
func supplied(s State) (State, bool) {
	k := s.fresh()
	switch {
	case s.Commitment == looking && !s.EarlySupply:
		s.EarlySupply = true
	case s.Step == awaitKey && s.Fact == Nothing:
		s.Fact = Claimed
	case s.Step == adopt && !s.Resupplied:
		s.Resupplied = true
	default:
		return s, false
	}
	if !s.Killed.has(k) {
		s.Live |= set(k)
	}
	s.Stores[0].Values |= set(k)
	return s, true
}

// raise takes an emergency: into this rotation if it can serve it, otherwise another one follows. vague: it names every
// value that was made before, or something that nobody knows.
func (m Model) raise(s State, names Keys, first, vague bool) (State, bool) {
	s.Leaked |= names
	if !m.follows(s, names, first, vague) {
		return m.join(s, first), true
	}
	if s.Round == 2 {
		return s, false // the model knows of two rotations
	}
	s.Follow, s.FollowFirst = true, s.FollowFirst || first
	return s, true
}

// follows reports whether an emergency needs a rotation of its own.
func (m Model) follows(s State, names Keys, first, vague bool) bool {
	c := s.Commitment.name()
	switch {
	case s.Commitment == looking:
		return false
	case c.Backwards() && !m.breaks(JoinBackwards):
		return true
	case vague || first && !c.Published():
		return true
	case m.breaks(IgnoreNewKey):
		return false
	}
	return names.has(s.New) || !s.Olds.all(names)
}

// join makes this rotation an emergency: no grace, no guard, and no way back to a key that leaked.
func (m Model) join(s State, first bool) State {
	s.Emergency = true
	if !m.breaks(KeepRequest) {
		s.Request = false
	}
	if s.Commitment == looking {
		s.First = s.First || first
		s.Stale = !m.breaks(OldEyes)
		return s
	}
	if s.Commitment.name().Published() {
		s.GraceOver = true
	}
	if s.Commitment == bothKeys && !m.breaks(StayBothKeys) {
		s.Commitment = forwardOnly
	}
	if !m.breaks(ReturnToLeaked) {
		s.Before = false
	}
	if s.Step == approval && (s.Question == ReleaseOld || s.Question == NoWayBack) {
		s.Fact = Withdrawn
	}
	return s
}
