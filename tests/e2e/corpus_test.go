package e2e

import (
	"context"
	"slices"

	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/internal/histories"
)

// inCorpus are the tests whose histories go into the corpus of tests/replay.
var inCorpus = []string{
	"TestOneKeyRotatesOnceAtATime", "TestATerminatedRotationsDutyIsInherited", "TestARollBackAfterPromoteGoesThroughReverse",
	"TestAWorkerKilledWhileARollBackDiscardsLosesNothing/killed_just_before_Discard", "TestAMintThatTakesEffectAfterItsRetryIsSwept",
	"TestAnEmergencyStopsARotationInGraceAndAnotherFollowsAtOnce", "TestASecondSupplyReplacesAFirstThatIsStillBeingChecked",
	"TestPeopleAreToldFromTheBeginningOfAWaitToTheEndOfTheRotation",
}

// replayed checks that the history of a rotation replays, and writes it into the corpus if that is wanted.
func (w *town) replayed(run client.WorkflowRun) {
	w.Helper()
	h, err := histories.Check(context.Background(), w.client, run.GetID(), run.GetRunID())
	if err == nil && slices.Contains(inCorpus, w.Name()) {
		err = histories.Keep(h, w.Name())
	}
	if err != nil {
		w.Error(err)
	}
}
