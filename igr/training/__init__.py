"""Samples, schedule, solver, run folder and loop.

    solvers          Adam and Muon
    sampling         the points that a step sees
    schedule         steps, batch, largest rate and frequencies by the cloud
    settling         may a run end? its evidence, the running average of the weights
    monitoring       evaluate the surface during training
    locks            one training at a time in a folder
    runs             the run folder: checkpoints, log, resuming
    loop             one step, the plan of all steps with their rates, the loop

It may import pointcloud, field, isosurface, geometry, backend.
"""
