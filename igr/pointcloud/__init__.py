"""What is done with a cloud before a network sees it.

    checks        warn about clouds that train badly
    cleaning      remove duplicates and outliers, thin
    misalignment  scans that lie beside each other, moved together
    alignment     several scans as one cloud
    noise         scatter and spacing of the points: are they few or scattered?
    winding       normals by winding numbers
    sheets        sides of open surfaces: by a view of all, or along each sheet
    normals       given normals checked, missing ones estimated
    thickness     how thin are the solid parts?

It may import geometry, formats, backend.
"""
