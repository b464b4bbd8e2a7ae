export { HttpError, httpErrorOf } from './http-error.ts';
export {
  type HttpApp,
  type HttpHandler,
  type HttpReply,
  type HttpRequest,
  type HttpsServerOptions,
  mount,
  route,
  serveHttps,
} from './https-server.ts';
export { contentPolicy } from './security-headers.ts';
