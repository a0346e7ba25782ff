package e2e

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// inCorpus are the scenarios whose histories go into the corpus of tests/replay, by the test that plays them.
var inCorpus = map[string]string{
	"TestOneKeyRotatesOnceAtATime":                                                   "automatic",
	"TestATerminatedRotationsDutyIsInherited":                                        "inherited-duty",
	"TestARollBackAfterPromoteGoesThroughReverse":                                    "reverse",
	"TestAWorkerKilledWhileARollBackDiscardsLosesNothing/killed_just_before_Discard": "discard",
	"TestAMintThatTakesEffectAfterItsRetryIsSwept":                                   "late-mint",
	"TestAWorkflowResetToBeforePromoteMintsNothingNew":                               "reset",
	"TestAStepThatIsBlockedIsTriedAgainAndGoesOn":                                    "blocked",
	"TestAnEmergencyHurriesARotationThatIsAboutToRevokeWhatLeaked":                   "emergency-joined",
	"TestAnEmergencyStopsARotationInGraceAndAnotherFollowsAtOnce":                    "emergency-followed",
	"TestASecondSupplyReplacesAFirstThatIsStillBeingChecked":                         "second-supply",
	"TestPeopleAreToldFromTheBeginningOfAWaitToTheEndOfTheRotation":                  "by-hand",
	"TestARotationWhoseHistoryHasGrownTooLongGoesOnInANewRun":                        "continued",
}

// largest is how large a history of the corpus is at most, in bytes.
const largest = 200_000

// replayed checks that the histories of a rotation, and of those that it follows in the same workflow, replay, and
// writes them into the corpus if that is wanted.
func (w *town) replayed() {
	w.Helper()
	all, err := replaytest.CheckAll(context.Background(), w.client, w.id())
	if err != nil {
		w.Error(err)
		return
	}
	scenario, kept := inCorpus[w.Name()]
	if !kept {
		return
	}
	for i, h := range all {
		name := scenario
		if i > 0 {
			name = fmt.Sprintf("%s-%d", scenario, i+1)
		}
		if proto.Size(h) > largest {
			continue
		}
		if err := replaytest.Keep(h, name); err != nil {
			w.Error(err)
		}
	}
}
