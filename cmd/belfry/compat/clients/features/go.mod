module belfry/features

go 1.26.0
