package auditor

import (
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/store"
)

func judgeLinear(s *story) string {
	return strings.Join(linearizable(s.History, nil, decideWithin), "\n")
}

// lost is a save whose answer is lost; took says that it has taken effect.
func (s *story) lost(took bool, change func(*store.Record)) {
	at := s.Key.Stores[0]
	r, from := s.state[at], s.revision(at)
	change(&r)
	s.do(Op{Kind: Save, Where: at, Revision: from, Before: copied(r), Outcome: Unknown})
	if took {
		s.state[at] = r
		s.rev[at]++
	}
}

func installed(r *store.Record) { r.Install = install }

func duty(r *store.Record) { r.Duties = []store.Duty{{KeyID: oldKey, Fingerprint: oldValue}} }

func TestAHistoryOfARecordHasAnOrder(t *testing.T) {
	for sentence, tell := range map[string]func(*story){
		"nothing goes wrong": func(s *story) { s.save(first, installed); s.load(first, rekey) },
		"a save without an answer has taken effect": func(s *story) {
			s.lost(true, installed)
			s.load(first, rekey)
			s.save(first, duty)
		},
		"a save without an answer has not": func(s *story) {
			s.lost(false, installed)
			s.load(first, rekey)
			s.save(first, duty)
			s.load(first, rekey)
		},
		"a save takes effect when its caller has long gone": func(s *story) {
			s.lost(false, installed)
			s.load(first, rekey)
			s.wait(time.Hour)
			installedLate := s.state[first]
			installed(&installedLate)
			s.state[first] = installedLate
			s.rev[first]++
			s.load(first, rekey)
		},
		"a stale save is refused": func(s *story) {
			s.save(first, installed)
			s.do(Op{Kind: Save, Where: first, Revision: "0", Before: copied(s.state[first]), Outcome: Conflict})
			s.load(first, rekey)
		},
		"a promote without an answer has taken effect": func(s *story) {
			s.save(first, func(r *store.Record) { r.Pending = &store.Version{Number: "2", Fingerprint: newValue} })
			r := s.state[first]
			s.do(Op{Kind: Promote, Where: first, Revision: "1", Before: copied(r), Fingerprint: newValue, Number: "2", Outcome: Unknown})
			r.Current, r.Pending = r.Pending, nil
			s.state[first] = r
			s.rev[first]++
			s.do(Op{Kind: Published, Where: first, Fingerprint: newValue})
			s.load(first, rekey)
		},
		"a promote is cut off after it noted what it would add, and adds it late": func(s *story) {
			r := s.state[first]
			s.do(Op{Kind: Promote, Where: first, Revision: "0", Before: copied(r), Fingerprint: newValue, Number: "2", Outcome: Unknown})
			s.rev[first]++
			s.load(first, rekey)
			s.save(first, duty)
			s.do(Op{Kind: Published, Where: first, Fingerprint: oldValue})
			r = s.state[first]
			r.Current = &store.Version{Number: "3", Fingerprint: newValue}
			s.state[first] = r
			s.do(Op{Kind: Published, Where: first, Fingerprint: newValue})
			s.load(first, rekey)
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := newStory()
			s.load(first, rekey)
			tell(s)
			if found := judgeLinear(s); found != "" {
				t.Error(found)
			}
		})
	}
}

func TestAHistoryThatNoOrderExplainsIsFound(t *testing.T) {
	for sentence, tell := range map[string]func(*story){
		"a save over what somebody else has written": func(s *story) {
			s.save(first, installed)
			s.do(Op{Kind: Save, Where: first, Revision: "0", Before: copied(s.state[first]), After: copied(s.state[first]), AfterRevision: "2"})
		},
		"a save that was answered is not there": func(s *story) {
			before := s.state[first]
			s.save(first, installed)
			s.state[first] = before
			s.load(first, rekey)
		},
		"a refused save is there": func(s *story) {
			r := s.state[first]
			installed(&r)
			s.do(Op{Kind: Save, Where: first, Revision: "0", Before: copied(r), Outcome: Refused})
			s.state[first] = r
			s.load(first, rekey)
		},
		"a fresh save meets a conflict": func(s *story) {
			s.do(Op{Kind: Save, Where: first, Revision: "0", Before: copied(s.state[first]), Outcome: Conflict})
		},
		"a late save is there although somebody else was faster": func(s *story) {
			s.lost(false, installed)
			s.save(first, duty)
			r := s.state[first]
			r.Duties, r.Install = nil, install
			s.state[first] = r
			s.rev[first]++
			s.load(first, rekey)
		},
		"a save changes what applications read": func(s *story) {
			s.save(first, func(r *store.Record) { r.Current = &store.Version{Number: "2", Fingerprint: newValue} })
		},
		"applications read what nobody has published": func(s *story) {
			s.do(Op{Kind: Published, Where: first, Fingerprint: newValue})
		},
		"applications read the former value again": func(s *story) {
			s.promote(first, store.Version{Number: "2", Fingerprint: newValue})
			s.do(Op{Kind: Published, Where: first, Fingerprint: oldValue})
		},
		"a promote publishes another value": func(s *story) {
			s.promote(first, store.Version{Number: "2", Fingerprint: newValue})
			s.History[len(s.History)-1].Fingerprint = "cccccccccccc"
		},
		"a promote that was refused has published all the same": func(s *story) {
			s.do(Op{Kind: Promote, Where: first, Revision: "0", Before: copied(s.state[first]), Fingerprint: newValue, Number: "2", Outcome: Refused})
			s.do(Op{Kind: Published, Where: first, Fingerprint: newValue})
		},
		"a version holds another value": func(s *story) {
			s.add(first, newValue)
			s.do(Op{Kind: Read, Where: first, Number: "2", Fingerprint: oldValue})
		},
		"a number is given to two values": func(s *story) {
			s.add(first, newValue)
			s.number[first]--
			s.add(first, oldValue)
		},
		"a version is gone that nobody has destroyed": func(s *story) {
			s.add(first, newValue)
			s.do(Op{Kind: Read, Where: first, Number: "2", Outcome: Refused, NotFound: true})
		},
		"a destroyed version is read": func(s *story) {
			s.add(first, newValue)
			s.do(Op{Kind: Destroy, Where: first, Number: "2"})
			s.do(Op{Kind: Read, Where: first, Number: "2", Fingerprint: newValue})
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := newStory()
			s.load(first, rekey)
			tell(s)
			if found := judgeLinear(s); !strings.Contains(found, "not linearizable") {
				t.Errorf("nothing was found: %q", found)
			}
		})
	}
}

func TestWhatIsNotDecidedIsTold(t *testing.T) {
	s := newStory()
	s.load(first, rekey)
	for range 40 {
		s.lost(false, installed)
	}
	s.do(Op{Kind: Published, Where: first, Fingerprint: newValue})
	found := strings.Join(linearizable(s.History, nil, time.Nanosecond), "\n")
	if !strings.Contains(found, "NOT DECIDED within 1ns") {
		t.Errorf("got %q", found)
	}
}
