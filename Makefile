# A thin door to .ci/run, which says what each step does: make test, make lint race, make (everything).
STEPS = needs gofmt tidy vet lint workflowcheck vuln race test slim notice fuzz e2e faults resources model browser golden corpus

.PHONY: all build demo $(STEPS)

all:
	@bash .ci/run

$(STEPS):
	@bash .ci/run $@

build:
	go build -o rekey ./starter
	go build -o rekey-worker ./worker

demo:
	go run ./starter demo
