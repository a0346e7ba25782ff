package model

// request is the activity's next request to a store or the provider, in the state that it leads to; false if there is
// none. risky requests may take effect although nobody answers them.
func (m Model) request(s State) (after State, risky, ok bool) {
	switch s.Step {
	case contain:
		return m.containOne(s)
	case create:
		return m.createNext(s)
	case adopt:
		if k := s.fresh(); !s.currents().has(s.own()) && s.Stores[0].Pending != k && s.Stores[0].Values.has(k) {
			s.Stores[0].Pending, s.Claim = k, s.Round
			return s, false, true
		}
	case store:
		return m.storeNext(s)
	case promote:
		return m.promoteNext(s)
	case disable:
		for _, k := range s.outgoing().each() {
			if s.Live.has(k) && m.checkRevocable(s, k) && m.signed(s) {
				s.Live, s.Off = s.Live&^set(k), s.Off|set(k)
				return s, true, true
			}
		}
	case remove:
		if k := m.nextToDelete(s); k != NoKey && (s.Live | s.Off).has(k) && m.checkRevocable(s, k) && m.signed(s) {
			s.Live, s.Off = s.Live&^set(k), s.Off&^set(k)
			return s, true, true
		}
	case enable:
		if s.Off.has(s.Back) {
			s.Off, s.Live = s.Off&^set(s.Back), s.Live|set(s.Back)
			return s, false, true
		}
	case retire:
		return m.retireNext(s)
	case discard:
		return m.discardNext(s)
	}
	return s, false, false
}

func (m Model) containOne(s State) (State, bool, bool) {
	if s.shape().RevokeByHand {
		return s, false, false
	}
	for _, k := range s.Olds.each() {
		switch {
		case s.shape().Disable && s.Live.has(k):
			s.Live, s.Off = s.Live&^set(k), s.Off|set(k)
			s.Sacrificed |= set(k)
			return s, true, true
		case !s.shape().Disable && (s.Live | s.Off).has(k):
			s.Live, s.Off = s.Live&^set(k), s.Off&^set(k)
			s.Sacrificed |= set(k)
			return s, true, true
		}
	}
	return s, false, false
}

// createNext sweeps what was left before, takes the claim, and mints and stages in one go.
func (m Model) createNext(s State) (State, bool, bool) {
	if m.staged(s) && s.Refused && !s.currents().has(s.own()) && !m.breaks(ProveTheDead) {
		if s.Open && !m.breaks(NoHorizon) {
			return s, false, false
		}
		s.Refused, s.Killed = false, s.Killed&^set(s.own())
		return s.erase(s.own()), false, true // another one takes its place
	}
	if m.staged(s) || s.Open && !m.breaks(NoHorizon) {
		return s, false, false
	}
	if left := s.remains() &^ set(s.own()); left != 0 {
		return s.erase(left.each()[0]), false, true
	}
	s.Claim, s.Open = s.Round, false
	s.Live |= set(s.own())
	s.Stores[0].Pending = s.own()
	s.Stores[0].Values |= set(s.own())
	return s, true, true
}

// staged reports whether this rotation's own value is in a store: a workflow that was reset finds it.
func (m Model) staged(s State) bool { return s.values().has(s.own()) }

// erase deletes a key that stands nowhere, and its values.
func (s State) erase(k Key) State {
	s.Live, s.Off = s.Live&^set(k), s.Off&^set(k)
	for _, i := range s.stores() {
		s.Stores[i].Values &^= set(k)
		if s.Stores[i].Pending == k {
			s.Stores[i].Pending = NoKey
		}
	}
	return s
}

func (m Model) storeNext(s State) (State, bool, bool) {
	k := s.incoming()
	if !s.values().has(k) {
		return s, false, false
	}
	for _, i := range s.stores() {
		if here := &s.Stores[i]; here.Current != k && here.Pending != k {
			here.Pending = k
			here.Values |= set(k)
			return s, false, true
		}
	}
	return s, false, false
}

// promoteNext writes the duties down, then makes the value current in one store after the other.
func (m Model) promoteNext(s State) (State, bool, bool) {
	k := s.incoming()
	owed := s.Owed | s.outgoing()
	if m.breaks(ForgetFirst) {
		owed &^= set(k)
	}
	if (owed != s.Owed || owed&s.pending()&^set(k) != 0) && !m.breaks(NoDuties) {
		s.Owed = owed
		for _, i := range s.stores() {
			if p := s.Stores[i].Pending; p != k && owed.has(p) {
				s.Stores[i].Pending = NoKey
			}
		}
		return s, false, true
	}
	for _, i := range s.stores() {
		if here := &s.Stores[i]; here.Current != k && here.Values.has(k) {
			here.Current = k
			if here.Pending == k {
				here.Pending = NoKey
			}
			return s, false, true
		}
	}
	// Not before applications read it everywhere: cut off earlier, nobody would know of it any more.
	if s.reads(k) && s.Owed.has(k) {
		s.Owed &^= set(k)
		return s, false, true
	}
	return s, false, false
}

// checkRevocable is what every call that takes a key away asks the stores for: nobody reads it or is about to, a record owes it,
// and applications read in every store what was proven and is to stay. That is proven once more.
func (m Model) checkRevocable(s State, k Key) bool {
	if m.breaks(TakeCurrent) {
		return true
	}
	proven := s.Live.has(s.incoming()) || s.Emergency || m.breaks(NoProof)
	return !s.currents().has(k) && !s.pending().has(k) && s.Owed.has(k) && s.reads(s.incoming()) && proven
}

// signed reports whether the activity may take the outgoing keys away.
func (m Model) signed(s State) bool {
	return !s.shape().FourEyes || s.Emergency || s.Mandate.all(s.outgoing()) && !s.Void || m.breaks(NoSignatures)
}

// nextToDelete is the key that the next deletion is about: duties first, what applications read before last.
func (m Model) nextToDelete(s State) Key {
	left := s.outgoing() &^ s.Deleted
	for _, k := range left.each() {
		if k != s.Back {
			return k
		}
	}
	if left != 0 {
		return s.Back
	}
	return NoKey
}

// retireNext clears the stores, sweeps what stands nowhere, and gives the claim back.
func (m Model) retireNext(s State) (State, bool, bool) {
	for _, k := range s.outgoing().each() {
		if s.Live.has(k) && !m.breaks(RetireBlindly) {
			return s, false, false // it refuses to forget a key that is accepted
		}
	}
	if gone := s.outgoing(); s.Owed&gone != 0 || s.values()&gone != 0 {
		s.Owed &^= gone
		for _, i := range s.stores() {
			s.Stores[i].Values &^= gone
		}
		return s, false, true
	}
	return m.sweep(s)
}

func (m Model) sweep(s State) (State, bool, bool) {
	if s.Claim == 0 || s.Open && !m.breaks(NoHorizon) {
		return s, false, false
	}
	if left := s.remains(); left != 0 && !m.breaks(NoSweep) {
		return s.erase(left.each()[0]), false, true
	}
	s.Claim, s.Open = 0, false
	return s, false, true
}

// discardNext deletes the new key, clears what is staged, sweeps, and gives the claim back.
func (m Model) discardNext(s State) (State, bool, bool) {
	if s.currents().has(s.own()) {
		return s, false, false
	}
	if all := s.discards(); len(all) > 0 {
		k := all[0]
		if (s.minted().has(k) || m.breaks(DeleteSupplied)) && (s.Live | s.Off).has(k) {
			s.Live, s.Off = s.Live&^set(k), s.Off&^set(k)
			return s, true, true
		}
		for _, i := range s.stores() {
			s.Stores[i].Values &^= set(k)
			if s.Stores[i].Pending == k {
				s.Stores[i].Pending = NoKey
			}
		}
		return s, false, true
	}
	return m.sweep(s)
}

// discards are the keys that a roll-back before promote discards: the rotation's own, and what the one before it in the
// same workflow has left pending.
func (s State) discards() []Key {
	var all []Key
	if s.staging(s.own()) {
		all = append(all, s.own())
	}
	if before := New1; s.Follows && s.own() != before && s.pending().has(before) && !s.currents().has(before) {
		all = append(all, before)
	}
	return all
}

// staging reports whether a store has a value of k or names it as pending.
func (s State) staging(k Key) bool { return (s.pending() | s.values()).has(k) }

// answer reports whether the activity of the present step can answer like this, and writes down what the answer brings.
func (m Model) answer(s State, in Input) (State, bool) {
	next, ok := m.reply(s, in)
	if !ok {
		return s, false
	}
	switch {
	case s.Step == remove && (in == AnswerUnavailable || s.Retried && in != AnswerOK):
		next.DeleteOpen = true
	}
	next.Retried = false
	return next, true
}

func (m Model) reply(s State, in Input) (State, bool) {
	if s.Fact != Nothing || s.Closed() {
		return s, false
	}
	_, _, more := m.request(s)
	sh := s.shape()
	may := false
	switch in {
	case AnswerUnavailable:
		s.Fact = Unavailable
		return s, s.Step.works() && !(s.Step == contain && sh.RevokeByHand)
	case AnswerRefused:
		s.Fact = Refused
		switch s.Step {
		case recheck:
			return s, true
		case guard:
			return s, false
		}
		return s, s.Step.works() && !(s.Step == contain && sh.RevokeByHand)
	case AnswerAsked:
		s.Fact = Asked
		switch s.Step {
		case prepare:
			return m.look(s, Asked)
		case create:
			return s, sh.Questions && !m.staged(s)
		case adopt, promote:
			return s, sh.Questions
		case guard:
			return s, true
		}
		return s, false
	case AnswerConflict:
		s.Fact = Conflict
		return s, s.Step == conflicts && sh.Apart
	case AnswerUnusable:
		s.Fact = Unusable
		switch {
		case s.Step == verify: // for good: another value in a store, another account
			return s, true
		case s.Step != adopt || s.currents().has(s.fresh()):
			return s, false
		case !s.Resupplied:
			s = s.forget(s.fresh())
		}
		return s, true
	case AnswerOldWorks:
		s.Fact = OldWorks
		return s, s.Step == recheck && s.Back != NoKey && !s.Live.has(s.incoming()) && s.outgoing()&s.Live != 0 && (s.Commitment == reversing || s.Live.has(s.Back))
	case AnswerUnused, AnswerInUse, AnswerUseUnknown:
		s.Fact = Unused + Fact(in-AnswerUnused)
		return s, s.Step == guard && s.outgoing() != 0
	case AnswerUnsigned:
		s.Fact = Unsigned
		return s, (s.Step == disable || s.Step == remove) && !m.signed(s)
	case AnswerPublished:
		s.Fact = AlreadyPublished
		return s, s.Step == discard && s.currents().has(s.own())
	case AnswerAccepted:
		s.Fact = Accepted
		return s, s.Step == confirm && s.outgoing()&s.Live != 0
	case AnswerNewRefused:
		s.Fact = NewRefused
		switch s.Step {
		case verify:
			return s, !s.Live.has(s.incoming()) && m.settled(s, s.incoming())
		case confirm:
			return s, !s.Live.has(s.incoming()) && s.Approved != NewRefusedNow
		}
		return s, false
	case AnswerGone:
		s.Fact = Gone
		switch s.Step {
		case disable:
			return s, m.signed(s) && s.outgoing()&s.Live == 0 && !(s.Live | s.Off).has(s.former())
		case enable:
			return s, !(s.Live | s.Off | s.Killed).has(s.Back)
		}
		return s, false
	case AnswerOK:
		may = !more
	default:
		return s, false
	}
	// AnswerOK: there is nothing left to ask for, and what was asked for is so.
	s.Fact = OK
	switch s.Step {
	case conflicts:
		return s, true
	case prepare:
		return m.look(s, OK)
	case contain:
		return s, may && !sh.RevokeByHand
	case create:
		if !m.staged(s) || !may {
			return s, false
		}
		s.New = s.own()
		return s, true
	case adopt:
		k := s.fresh()
		return s, s.currents().has(s.own()) || may && s.Stores[0].Pending == k && s.Live.has(k) && !s.Olds.has(k)
	case store:
		s.Missing = s.Missing && s.Commitment != reversing
		return s, may && s.everywhere(s.incoming())
	case verify:
		if m.breaks(NoVerify) {
			return s, true
		}
		if !s.Live.has(s.incoming()) || !s.everywhere(s.incoming()) && !m.breaks(VerifyOneStore) || !m.settled(s, s.incoming()) {
			return s, false
		}
		s.Verified |= set(s.incoming())
		return s, true
	case promote:
		return s, may && s.reads(s.incoming()) || m.breaks(HalfPromote) && s.currents().has(s.incoming())
	case recheck:
		return s, s.Live.has(s.incoming())
	case guard:
		return s, s.outgoing() == 0
	case disable:
		return s, s.outgoing()&s.Live == 0 && s.Off.has(s.former()) && m.signed(s)
	case remove:
		k := m.nextToDelete(s)
		if k == NoKey || (s.Live | s.Off).has(k) || !m.signed(s) {
			return s, k == NoKey
		}
		s.Deleted |= set(k)
		return s, true
	case confirm:
		return s, s.outgoing()&s.Live == 0 && (s.Live.has(s.incoming()) || s.Approved == NewRefusedNow)
	case retire:
		return s, may && s.Claim == 0 && s.Owed&s.outgoing() == 0
	case enable:
		return s, !more && !s.Off.has(s.Back) && (s.Live.has(s.Back) || s.Killed.has(s.Back))
	case discard:
		return s, may && s.Claim == 0 && !s.currents().has(s.own()) && len(s.discards()) == 0
	}
	return s, false
}

// settled reports whether no request to take a key away may take effect any more: what proves a key waits for that.
func (m Model) settled(s State, k Key) bool { return !s.Asked.has(k) || m.breaks(NoSettling) }

// works reports whether a step is an activity.
func (s step) works() bool {
	switch s {
	case grace, soak, approval, awaitKey, awaitContainment, awaitRevocation, completed, rolledBack:
		return false
	}
	return true
}

// forget removes what a person supplied and cannot be used.
func (s State) forget(k Key) State {
	for _, i := range s.stores() {
		s.Stores[i].Values &^= set(k)
		if s.Stores[i].Pending == k {
			s.Stores[i].Pending = NoKey
		}
	}
	s.Live &^= set(k)
	return s
}

// look is what prepare sees, and its verdict.
func (m Model) look(s State, as Fact) (State, bool) {
	if as == Asked {
		s.Fact = Asked
		return s, s.shape().Questions
	}
	mine, currents := set(s.own(), s.stray()), s.currents()
	if replaced := s.Emergency && (s.Vague || s.Leaked.all(currents&s.Asked)); currents&s.Asked != 0 && !replaced && !m.breaks(NoSettling) {
		return s, false // what is true is known when that can no longer take effect
	}
	duties := s.Owed &^ currents
	disagree := len(currents.each()) > 1 || s.empty() && currents != 0
	first := s.Stores[0].Current
	if first == NoKey {
		first = s.Stores[1].Current
	}
	refused := first != NoKey && !s.Live.has(first)
	s.New, s.Refused, s.Supplied = NoKey, false, false
	leaks := s.values() & s.Live &^ currents &^ duties &^ (mine & s.stagedByMe())
	named := leaks & s.Leaked
	if s.Vague {
		named = leaks
	}
	if s.Follows && !s.shape().SupplyByHand {
		named |= leaks & s.pending() & set(New1, Stray1) // nobody will ever publish it
	}
	if s.Owed.has(s.own()) && !s.reads(s.own()) && !m.breaks(PublishRolledBack) {
		s.Fact = Another // this rotation was reset while it was rolling back
		return s, true
	}
	if own := mine & s.stagedByMe(); s.Emergency && (own&s.Leaked != 0 || s.Vague && own != 0) && !m.breaks(PublishOwnLeaked) {
		s.Fact = Another // this rotation was reset, and what it minted has leaked
		return s, true
	}
	s.Fact, s.Olds = Due, currents&^mine|duties
	switch {
	case currents == 0:
	case s.Emergency && !s.Vague && currents&^mine&s.Leaked == 0 && !disagree && !refused:
		s.Fact, s.Olds = OnlyFinish, duties|named
		if s.Olds == 0 {
			s.Fact = NotDue
		}
	case s.Emergency:
		s.Olds |= named
	case s.shape().Asked || disagree || refused || s.shape().Due && currents&mine == 0:
	case duties != 0:
		s.Fact, s.Olds = OnlyFinish, duties
	default:
		s.Fact, s.Olds = NotDue, 0
	}
	s.Back, s.Works, s.Missing = NoKey, false, false
	if s.Fact == OnlyFinish {
		s.New = first
		s.Verified |= set(s.New) // an earlier rotation proved it, and prepare just did
		return s, true
	}
	s.Back, s.Works = s.olds()[0], !refused
	s.Missing = s.Back != NoKey && !s.everywhere(s.Back)
	return s, true
}

// stagedByMe are the keys that a record names as staged by this rotation.
func (s State) stagedByMe() Keys {
	all := s.pending() | s.currents() | s.Owed | s.values()&s.minted()
	return all & set(s.own(), s.stray())
}

// olds are the keys to replace, in order: what applications read, in the first store that has one of them, and then the
// others, the oldest as the last.
func (s State) olds() []Key {
	var all []Key
	rest := s.Olds
	for _, i := range s.stores() {
		if k := s.Stores[i].Current; s.Olds.has(k) {
			all, rest = append(all, k), rest&^set(k)
			break
		}
	}
	for i := range rest.each() {
		all = append(all, rest.each()[len(rest.each())-1-i])
	}
	return append(all, NoKey)
}
