import { findProgram } from './programs.ts';
