package model

import (
	"testing"

	"github.com/rekeyhq/rekey/rotation"
)

// lookingAtTheKey is a rotation whose prepare is under way.
func lookingAtTheKey(t *testing.T, shape string) State {
	t.Helper()
	for i, sh := range Shapes {
		if sh.Name == shape {
			return Initial(i)
		}
	}
	t.Fatalf("there is no story %q", shape)
	return State{}
}

func TestAnEmergencyThatArrivesWithTheResultOfPrepareIsHeardBeforeTheDecision(t *testing.T) {
	s := lookingAtTheKey(t, "mint and disable")
	s, err := Model{}.Task(s, AnswerOK, Message{Input: EmergencyOld})
	if err != nil {
		t.Fatal(err)
	}
	if want := (rotation.State{Step: rotation.StepPrepare, Commitment: rotation.Looking}); s.At() != want || !s.Emergency {
		t.Fatalf("got %v, want an emergency that looks again, %v", s, want)
	}
	s, err = Model{}.Task(s, AnswerOK)
	if want := (rotation.State{Step: rotation.StepCreate, Commitment: rotation.Staged}); err != nil || s.At() != want {
		t.Fatalf("got %v, %v, want %v", s, err, want)
	}
}

func TestAMessageThatDoesNotFitIsRefusedAndChangesNothing(t *testing.T) {
	s := lookingAtTheKey(t, "mint and disable")
	plain, err := Model{}.Task(s, AnswerOK)
	if err != nil {
		t.Fatal(err)
	}
	refused, err := Model{}.Task(s, AnswerOK, Message{Input: SayApprove}, Message{Input: SayFinish, Update: true}, Message{Input: SayRevoked})
	if err != nil || refused != plain {
		t.Fatalf("got %v, %v, want %v", refused, err, plain)
	}
}

func TestWhatCannotHappenIsAnError(t *testing.T) {
	s := lookingAtTheKey(t, "mint and disable")
	if got, err := (Model{}).Task(s, SoakEnds); err == nil {
		t.Fatalf("a soak ended in %v and led to %v", s, got)
	}
}
