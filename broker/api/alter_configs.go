package api

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/controller"
	"github.com/belfry-mq/belfry/broker/wire"
)

// Operations of IncrementalAlterConfigs (KIP-339).
const (
	opSet    = 0
	opDelete = 1
	opTake   = 3 // 2 is append
)

// alterConfigs answers AlterConfigs 0–2: what is not named goes back to its default.
func (a *API) alterConfigs(r *wire.Request) {
	req := r.Body.(*kmsg.AlterConfigsRequest)
	resp := kmsg.NewPtrAlterConfigsResponse()
	wishes := make([]alteration, len(req.Resources))
	for i, res := range req.Resources {
		wishes[i] = alteration{kind: int8(res.ResourceType), name: res.ResourceName, replace: true}
		for _, c := range res.Configs {
			wishes[i].changes = append(wishes[i].changes, controller.Change{Name: c.Name, Op: opSet, Value: c.Value})
		}
	}
	var code first
	for i, err := range a.alter(r, wishes, req.ValidateOnly) {
		rr := kmsg.NewAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
		rr.ErrorCode, rr.ErrorMessage = a.answer("AlterConfigs", err)
		code.see(rr.ErrorCode)
		resp.Resources = append(resp.Resources, rr)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// incrementalAlterConfigs answers IncrementalAlterConfigs 0–1 (KIP-339).
func (a *API) incrementalAlterConfigs(r *wire.Request) {
	req := r.Body.(*kmsg.IncrementalAlterConfigsRequest)
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	wishes := make([]alteration, len(req.Resources))
	for i, res := range req.Resources {
		wishes[i] = alteration{kind: int8(res.ResourceType), name: res.ResourceName}
		for _, c := range res.Configs {
			wishes[i].changes = append(wishes[i].changes, controller.Change{Name: c.Name, Op: int8(c.Op), Value: c.Value})
		}
	}
	var code first
	for i, err := range a.alter(r, wishes, req.ValidateOnly) {
		rr := kmsg.NewIncrementalAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
		rr.ErrorCode, rr.ErrorMessage = a.answer("IncrementalAlterConfigs", err)
		code.see(rr.ErrorCode)
		resp.Resources = append(resp.Resources, rr)
	}
	r.Answer(wire.Message(resp, int16(code)))
}

// alteration is the wish for one resource.
type alteration struct {
	kind    int8
	name    string
	changes []controller.Change
	replace bool
}

// alter carries the wishes out and gives an error for each, nil where it is done.
func (a *API) alter(r *wire.Request, wishes []alteration, validateOnly bool) []error {
	errs := make([]error, len(wishes))
	img := a.image()
	type key struct {
		kind int8
		name string
	}
	seen := map[key]int{}
	for _, w := range wishes {
		seen[key{w.kind, w.name}]++
	}
	var as []controller.Alter
	var at []int
	for i, w := range wishes {
		res, err := a.resource(w.kind, w.name, img)
		if err == nil && seen[key{w.kind, w.name}] > 1 {
			err = refuse(kerr.InvalidRequest, fmt.Sprintf("resource %q stands in the request more than once: name it once", w.name))
		}
		if err == nil {
			err = checkChanges(w.changes)
		}
		if err != nil {
			errs[i] = err
			continue
		}
		as, at = append(as, controller.Alter{Resource: res, Changes: w.changes, Replace: w.replace}), append(at, i)
	}
	if len(as) > 0 {
		ctx, cancel := within(r, int32(patience.Milliseconds()))
		defer cancel()
		for n, err := range a.controller.AlterConfigs(ctx, as, validateOnly) {
			errs[at[n]] = err
		}
	}
	return errs
}

// checkChanges looks at the form of the changes; whether names and values are
// good is the controller's to say.
func checkChanges(cs []controller.Change) error {
	seen := map[string]bool{}
	for _, c := range cs {
		switch {
		case seen[c.Name]:
			return refuse(kerr.InvalidRequest, fmt.Sprintf("setting %q stands in the request more than once: name it once", c.Name))
		case c.Op < opSet || c.Op > opTake:
			return refuse(kerr.InvalidRequest, fmt.Sprintf("setting %q has operation %d; known are 0 set, 1 delete, 2 append, 3 subtract", c.Name, c.Op))
		case c.Value == nil && c.Op != opDelete:
			return refuse(kerr.InvalidConfig, fmt.Sprintf("setting %q has no value: give one, or delete it", c.Name))
		}
		seen[c.Name] = true
	}
	return nil
}
