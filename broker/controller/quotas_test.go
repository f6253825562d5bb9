package controller

import (
	"errors"
	"fmt"
	"testing"

	"github.com/belfry-mq/belfry/broker/metadata"
)

func TestQuotaEntitiesAreBounded(t *testing.T) {
	s := newStage()
	as := make([]QuotaAlter, maxQuotaEntities+1)
	for i := range as {
		as[i].Entity.User = metadata.QuotaName{Of: metadata.QuotaNamed, Name: fmt.Sprint(i)}
		as[i].Changes = []QuotaChange{{Name: "producer_byte_rate", Value: 1}}
	}
	errs := s.c.AlterQuotas(t.Context(), as, false)
	if errs[maxQuotaEntities-1] != nil || errs[maxQuotaEntities] == nil {
		t.Fatalf("the last entity that fits: %v; the one after it: %v", errs[maxQuotaEntities-1], errs[maxQuotaEntities])
	}
	var r *Refusal
	if !errors.As(errs[maxQuotaEntities], &r) || r.Code != codePolicyViolation || s.img.QuotaCount() != maxQuotaEntities {
		t.Errorf("%v with %d entities", errs[maxQuotaEntities], s.img.QuotaCount())
	}
	as[0].Changes[0].Value = 2
	if err := s.c.AlterQuotas(t.Context(), as[:1], false)[0]; err != nil {
		t.Errorf("an entity that is there cannot be changed: %v", err)
	}
}
