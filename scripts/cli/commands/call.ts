import { type Command, Option } from 'commander';
import type { CallOptions } from '../call/call.ts';
import { addCommand } from '../command.ts';
import { anyService, asOption } from './options.ts';

/** Adds `call` and `token`: calling methods of the mesh as any principal. */
export function addCallCommands(program: Command): void {
  addCommand<CallOptions>(program, {
    usage: 'call [method]',
    summary: 'Call a method, or list what can be called',
    description:
      'Calls a method as any principal. The method is named Service/Method, with the package where that is ambiguous; a service alone lists its methods and their fields; without a name everything is listed. Messages of a server stream are printed as they come, until the stream ends or is interrupted.',
    examples: [
      `armature call OrderService/ListOrders --data '{"customer_id":"ada"}' --as customer:ada`,
      'armature call OrderService/PlaceOrder --data @.run/demo/order.json',
      `echo '{"skus":["LAM-1"]}' | armature call InventoryService/BatchGetStock --data -`,
      'armature call OpsService/ListSagas --service orders --as operator',
      'armature call OrderService',
    ],
    timeout: '1m',
    timeoutMeaning: "the method's own deadline, and 30s to sign in",
    json: true,
    options: [
      new Option('--data <json>', 'the request as JSON, @file, or - for standard input'),
      asOption('customer:ada'),
      anyService(),
    ],
    run: async ([method = ''], options, invocation) =>
      (await import('../call/call.ts')).callMethod(method, options, invocation),
  });
  addCommand<{ as: string; fresh?: boolean }>(program, {
    usage: 'token',
    summary: 'Print an access token',
    description: 'Prints an access token of a person or a program, who signs in to identity for it.',
    examples: [
      'armature token --as staff:bo',
      'curl -H "Authorization: Bearer $(armature token --as customer:ada)" https://localhost:7408/userinfo',
    ],
    timeout: '30s',
    json: true,
    options: [
      asOption('customer:ada'),
      new Option('--fresh', 'sign in again, for methods that need a recent sign-in (SIGN_IN_TOO_OLD)'),
    ],
    run: async (_, { as, fresh = false }, invocation) =>
      (await import('../call/token.ts')).printToken(as, fresh, invocation),
  });
}
