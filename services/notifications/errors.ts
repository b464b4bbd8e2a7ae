import { NotificationErrorReason } from '@armature/proto/notifications/v1/contract.ts';
import { rpcError } from '@armature/runtime';

export const deliveryNotFound = (deliveryId: string) =>
  rpcError('NOT_FOUND', NotificationErrorReason.DELIVERY_NOT_FOUND, 'no such delivery', { delivery_id: deliveryId });

export const deliveryInProgress = (deliveryId: string) =>
  rpcError(
    'FAILED_PRECONDITION',
    NotificationErrorReason.DELIVERY_IN_PROGRESS,
    'the delivery is queued; wait until it is sent or given up',
    {
      delivery_id: deliveryId,
    },
  );
