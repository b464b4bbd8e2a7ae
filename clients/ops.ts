// Messages, enums and error reasons of armature.ops.v1.
export { OpsErrorReason } from '@armature/proto/ops/v1/contract.ts';
export * from '@armature/proto/ops/v1/ops.ts';
export {
  ResumeOutcome,
  ResumeResult,
  ResumeSagasRequest,
  ResumeSagasResponse,
  StuckSagaFilter,
} from '@armature/proto/ops/v1/resume_sagas.ts';
